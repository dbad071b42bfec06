"""A network from a file, evaluated on labelled images from files."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from nfrepro.data.evaluation_images import Crop, FractionCrop, PaddedCrop, TestImages, list_test_images, read_batches
from nfrepro.errors import InputError, did_you_mean
from nfrepro.models.options import DEFAULT_PIXELS, test_pixels
from nfrepro.models.weights import Description, build_network, load_own_network, read_weights
from nfrepro.plugins.names import is_name, search_folders, search_in
from nfrepro.training.evaluation import Evaluation, evaluate
from nfrepro.training.precision import Precision, autocast, prepare_device

PRECISIONS = get_args(Precision)


@dataclass(frozen=True)
class Protocol:
    """How a network is tested. `pixels` None: the size that goes with the network."""

    crop: Crop
    pixels: int | None
    batch_size: int
    device: torch.device
    precision: str


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with the images it is to be tested on, and how."""

    model: nn.Module
    description: Description
    weights_sha256: str
    images: TestImages
    pixels: int
    protocol: Protocol


def chosen_crop(value: float) -> Crop:
    """A crop by fraction for values up to 1, else by padding in whole pixels. Raises InputError for other values."""
    if 0 < value <= 1:
        return FractionCrop(value)
    if 1 < value <= 4096 and value == int(value):
        return PaddedCrop(int(value))
    raise InputError(f"--crop {value:g}: neither a fraction above 0 and up to 1 nor a padding in whole pixels above 1")


def chosen_device(name: str) -> torch.device:
    """The device of that name; `auto` is the first GPU, else the CPU. Raises InputError if there is no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"--device {name}: unknown: use auto, cpu, cuda or cuda:NUMBER") from None
    gpus = torch.cuda.device_count() if device.type == "cuda" else 1
    if device.type not in ("cpu", "cuda") or (device.index or 0) >= gpus:
        raise InputError(f"--device {name}: not on this machine: use auto or cpu")
    return device


def chosen_precision(name: str) -> str:
    """Returns `name`. Raises InputError if it is not a precision."""
    if name not in PRECISIONS:
        hint = did_you_mean(name, PRECISIONS)
        raise InputError(f"--precision {name}: unknown{hint or ';'} there is: {', '.join(PRECISIONS)}")
    return name


def prepare(weights: Path, data: Path, name: str | None, options: Mapping[str, Any], protocol: Protocol) -> Subject:
    """Reads the network and lists the images. Raises InputError for bad files, and if the two do not match."""
    images = list_test_images(data)
    if name is not None and is_name(name):
        return _prepare_own(weights, images, name, options, protocol)
    content = read_weights(weights)
    model, description = build_network(content, name, options)
    if description.num_classes != len(images.classes):
        raise InputError(
            f"{data}: {len(images.classes):,} class folders ({images.classes[0]}, …), but {weights} "
            f"distinguishes {description.num_classes:,} classes: the folders must be the classes it was trained on"
        )
    if description.in_channels != 3:
        raise InputError(f"{weights}: expects images of {description.in_channels} channels, but files are read as RGB")
    pixels = protocol.pixels or test_pixels(description.model, description.options)
    return Subject(model, description, content.sha256, images, pixels, protocol)


def _prepare_own(
    weights: Path, images: TestImages, name: str, options: Mapping[str, Any], protocol: Protocol
) -> Subject:
    """Prepares a network from elsewhere; only the folders tell the number of classes."""
    search_in([*search_folders(), Path.cwd()])
    classes = len(images.classes)
    model, sha256 = load_own_network(weights, name, options, classes, 3)
    description = Description(name, dict(options), classes, 3, "own", sha256)
    return Subject(model, description, sha256, images, protocol.pixels or DEFAULT_PIXELS, protocol)


def evaluate_subject(subject: Subject, advance: Callable[[int], None] = lambda count: None) -> Evaluation:
    """Evaluates all images, telling `advance` the size of each batch. Raises InputError if outputs are not finite."""
    protocol = subject.protocol
    device = prepare_device(str(protocol.device), protocol.precision)
    model = subject.model.to(device).to(memory_format=torch.channels_last)
    try:
        result = evaluate(model, _batches(subject, advance), autocast(device, protocol.precision))
    except torch.OutOfMemoryError:
        raise InputError(f"--batch {protocol.batch_size}: too many for the memory of {device}: reduce it") from None
    if not result.loss < float("inf"):
        raise InputError(
            f"{subject.description.model}: its outputs are not finite: are its options those of its weights?"
        )
    return result


def _batches(subject: Subject, advance: Callable[[int], None]) -> Iterator[tuple[Tensor, Tensor]]:
    protocol = subject.protocol
    for images, labels in read_batches(subject.images, subject.pixels, protocol.crop, protocol.batch_size):
        yield (
            images.to(protocol.device, memory_format=torch.channels_last, non_blocking=True),
            labels.to(protocol.device, non_blocking=True),
        )
        advance(len(labels))
