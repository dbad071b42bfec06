"""Images too many for the memory: read from their files while a network trains or is tested."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nfrepro.data.augmentation import Augmentation, Epoch, augment
from nfrepro.data.bicubic import resize_bicubic
from nfrepro.data.evaluation_images import FractionCrop, PaddedCrop, read_image
from nfrepro.data.image_reader import read_rgb
from nfrepro.data.inception_crop import crop_boxes
from nfrepro.data.options import AugmentationOptions
from nfrepro.data.randaugment import apply_change
from nfrepro.errors import InputError

# What a scheduler or a terminal sends to all processes of a job, so that the main one may save and stop.
LEFT_TO_THE_MAIN_PROCESS = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
# A worker that was told to end does so within this time; the main process may wait for its images until then.
SECONDS_TO_END = 20

# Images a worker hands over at a time: bounds the shared memory, and a large batch is read by all workers at once.
PIECE = 32

TEST_CROP = PaddedCrop()


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """`names`: bytes [N], below `folder`; `labels`: int64 [N], on `device`, where batches go; `pixels`: their side."""

    folder: Path
    names: NDArray[np.bytes_]
    labels: Tensor
    pixels: int
    channels: int = 3

    def __len__(self) -> int:
        return len(self.names)

    @property
    def device(self) -> torch.device:
        return self.labels.device

    def to(self, device: torch.device | str) -> "ImageFiles":
        return replace(self, labels=self.labels.to(device))

    def path(self, number: int) -> Path:
        return self.folder / os.fsdecode(self.names[number])

    def centres(self, numbers: Sequence[int]) -> Tensor:
        """The largest central square of images, resized and normalised as ImageNet is: float32 [B, 3, pixels, pixels].

        Raises InputError, by name, for an image that cannot be read.
        """
        crop = FractionCrop(1.0)
        return torch.stack([torch.from_numpy(read_image(self.path(number), self.pixels, crop)) for number in numbers])


@dataclass(frozen=True, eq=False)
class TrainReader:
    """Reads rows of an epoch: uint8 [B, 3, pixels, pixels], augmented."""

    files: ImageFiles
    epoch: Epoch

    def __call__(self, rows: range) -> Tensor:
        options, drawn = self.epoch.options, self.epoch.augmentation(rows)
        paths = [self.files.path(number) for number in self.epoch.images[rows.start : rows.stop]]
        if drawn.crops is not None:
            return torch.stack([self._read(read_rgb(path), drawn, row, options) for row, path in enumerate(paths)])
        return augment(torch.stack([self._centre(read_rgb(path)) for path in paths]), drawn, options)

    def _read(self, image: Image.Image, drawn: Augmentation, row: int, options: AugmentationOptions) -> Tensor:
        """Inception crop, flip and RandAugment of one image, by Pillow: several times faster than with tensors."""
        assert drawn.crops is not None
        ((top, left, height, width),) = crop_boxes(image.height, image.width, drawn.crops[row : row + 1]).tolist()
        part = np.asarray(image.crop((left, top, left + width, top + height)))
        pixels = np.rint(resize_bicubic(part, self.files.pixels)).clip(0, 255).astype(np.uint8)
        if drawn.flips[row]:
            pixels = pixels[:, :, ::-1]
        if options.randaugment_layers:
            changed = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
            for code in drawn.changes[row].tolist():
                changed = apply_change(changed, code, options.randaugment_magnitude)
            pixels = np.asarray(changed).transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(pixels))

    def _centre(self, image: Image.Image) -> Tensor:
        centre: NDArray[np.float32] = FractionCrop(1.0)(image, self.files.pixels)
        return torch.from_numpy(centre.astype(np.uint8))


@dataclass(frozen=True, eq=False)
class TestReader:
    """Reads test images as the authors do: float32 [B, 3, pixels, pixels], normalised."""

    __test__ = False  # pytest: not a test

    files: ImageFiles

    def __call__(self, numbers: range) -> Tensor:
        images = [read_image(self.files.path(number), self.files.pixels, TEST_CROP) for number in numbers]
        return torch.from_numpy(np.stack(images))


def read_ahead(
    read: Callable[[range], Tensor], parts: Sequence[range], workers: int, device: torch.device
) -> Iterator[Tensor]:
    """`read` of each of `parts`, in order, on `device`; by `workers` processes, 0 = by this one alone.

    Raises InputError, by name, for an image that cannot be read.
    """
    pieces = [range(part.stop)[start : start + PIECE] for part in parts for start in part[::PIECE]]
    loader = DataLoader(
        _Pieces(read),
        batch_size=None,  # a piece is read as a whole
        sampler=pieces,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,  # at once, and without a copy of all names
        pin_memory=device.type == "cuda",
        worker_init_fn=_outlive_signals if workers else None,
        generator=torch.Generator(),  # the global one would be advanced
    )
    loaded = iter(loader)
    try:
        for part in parts:
            yield torch.cat([_received(next(loaded)).to(device, non_blocking=True) for _ in part[::PIECE]])
    finally:
        del loaded  # ends the workers now, even where a traceback keeps this frame


def _received(piece: Tensor | InputError) -> Tensor:
    if isinstance(piece, InputError):
        raise piece
    return piece


@dataclass(frozen=True, eq=False)
class _Pieces(Dataset[Any]):
    """An item for DataLoader. An InputError is returned: raised in a worker it would arrive as a traceback."""

    read: Callable[[range], Tensor]

    def __getitem__(self, piece: range) -> Tensor | InputError:
        try:
            return self.read(piece)
        except InputError as error:
            return error


def _outlive_signals(worker: int) -> None:
    for number in LEFT_TO_THE_MAIN_PROCESS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(SECONDS_TO_END))
