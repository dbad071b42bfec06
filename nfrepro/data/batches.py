"""Batches of images. Which images, in which order, cropped and flipped how: a function of seed and epoch alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from nfrepro.data.options import AugmentationOptions
from nfrepro.data.sources import Dataset
from nfrepro.errors import InputError
from nfrepro.seeding import stream_seed


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The order in which an epoch visits `count` images: int64 [count], on the CPU."""
    return torch.randperm(count, generator=_generator("order", seed, epoch))


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Number of full batches in `count` images; the last incomplete one is dropped. Raises InputError for none."""
    _require_positive(batch_size)
    if batch_size > count:
        raise InputError(f"batch size {batch_size:,} is more than the {count:,} train images: make it smaller")
    return count // batch_size


def train_batches(
    dataset: Dataset,
    options: AugmentationOptions,
    batch_size: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
    rows: range | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch from `first_step` on, the same as if the earlier ones had been taken too.

    With `rows` only these of each batch come, as they are in the whole batch.

    Yields images float32 [batch_size, C, H, W], padded with black, cropped, flipped, normalised, in channels_last
    layout, and labels int64 [batch_size], both on the device of the data set. Raises InputError where the data set
    is smaller than a batch or has no step `first_step` (the number of steps itself is allowed: nothing is left).
    """
    steps = steps_per_epoch(len(dataset.train), batch_size)
    if not 0 <= first_step <= steps:
        raise InputError(f"first step {first_step:,} is not one of the {steps:,} steps of an epoch")
    rows = range(batch_size) if rows is None else rows
    parts = [slice(step * batch_size + rows.start, step * batch_size + rows.stop) for step in range(first_step, steps)]
    return _train_batches(dataset, options, seed, epoch, parts)


def test_batches(
    dataset: Dataset,
    batch_size: int,
    rows: range | None = None,  # noqa: PT028
) -> Iterator[tuple[Tensor, Tensor]]:
    """The test split in its fixed order, or these `rows` of it, the last incomplete batch included.

    Yields images float32 [B, C, H, W], normalised, in channels_last layout, and labels int64 [B]. Raises InputError
    for a batch size below 1.
    """
    _require_positive(batch_size)
    return _test_batches(dataset, batch_size, range(len(dataset.test)) if rows is None else rows)


def _train_batches(
    dataset: Dataset, options: AugmentationOptions, seed: int, epoch: int, parts: Sequence[slice]
) -> Iterator[tuple[Tensor, Tensor]]:
    images, labels = dataset.train.images, dataset.train.labels
    normalisation = Normalisation.of(dataset)
    # To the device once an epoch: a copy a batch would make the device wait.
    order = epoch_order(len(labels), seed, epoch).to(images.device)
    augmentation = draw_augmentation(len(labels), options, seed, epoch).to(images.device)
    for part in parts:
        chosen = order[part]
        yield normalisation(augmentation.apply(images[chosen], part)), labels[chosen]


def _test_batches(dataset: Dataset, batch_size: int, rows: range) -> Iterator[tuple[Tensor, Tensor]]:
    normalisation = Normalisation.of(dataset)
    for start in rows[::batch_size]:
        part = slice(start, min(start + batch_size, rows.stop))
        yield normalisation(dataset.test.images[part].permute(0, 2, 3, 1)), dataset.test.labels[part]


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Makes pixel values 0..255 of mean 0 and standard deviation 1 over the train split.

    `mean`, `std`: [H, W, C], each channel's value repeated: on the CPU much faster than broadcasting [C].
    """

    mean: Tensor
    std: Tensor

    @staticmethod
    def of(dataset: Dataset) -> "Normalisation":
        device = dataset.train.images.device
        mean, std = torch.tensor(dataset.mean, device=device), torch.tensor(dataset.std, device=device)
        size = (dataset.pixels, dataset.pixels, dataset.channels)
        return Normalisation(mean.expand(size).contiguous(), std.expand(size).contiguous())

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [B, H, W, C] to float32 [B, C, H, W] in channels_last layout."""
        values = images.to(torch.float32, memory_format=torch.contiguous_format)
        return values.div_(255).sub_(self.mean).div_(self.std).permute(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class Augmentation:
    """The draws of one epoch, a row for each position in its order.

    `flips`: bool [N]; `corners`: int64 [N, 2], top and left corner of the crop in the padded image, in pixels.
    """

    padding: int
    flips: Tensor
    corners: Tensor

    def to(self, device: torch.device) -> "Augmentation":
        return Augmentation(self.padding, self.flips.to(device), self.corners.to(device))

    def apply(self, images: Tensor, part: slice) -> Tensor:
        """Pads, crops and flips the images at positions `part`: uint8 [B, C, H, W] to [B, H, W, C]."""
        height, width = images.shape[-2:]
        padded = functional.pad(images, [self.padding] * 4)
        # A view [B, C, top, left, H, W] of all possible crops; only the chosen ones are copied.
        crops = padded.unfold(2, height, 1).unfold(3, width, 1)
        top, left = self.corners[part].unbind(1)
        cropped = crops[torch.arange(len(images), device=images.device), :, top, left]
        flips = self.flips[part, None, None, None]
        return torch.where(flips, cropped.flip(-1), cropped).permute(0, 2, 3, 1)


def draw_augmentation(count: int, options: AugmentationOptions, seed: int, epoch: int) -> Augmentation:
    """Draws the flips and crops of an epoch of `count` images, on the CPU: equal whatever the device."""
    generator = _generator("augmentation", seed, epoch)
    # Both are drawn whatever the options: turning one off leaves the other as it was.
    flips = torch.randint(2, (count,), generator=generator).bool()
    corners = torch.randint(2 * options.crop_padding + 1, (count, 2), generator=generator)
    return Augmentation(options.crop_padding, flips & options.flip, corners)


def _generator(stream: str, seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(stream_seed(stream, seed, epoch))


def _require_positive(batch_size: int) -> None:
    if batch_size < 1:
        raise InputError(f"batch size {batch_size} is less than 1")
