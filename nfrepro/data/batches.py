"""Batches of images. Their choice, order and augmentation are functions of seed and epoch alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nfrepro.data import mixing
from nfrepro.data.augmentation import Epoch, augment, draw_epoch
from nfrepro.data.image_files import ImageFiles, Readers, opened
from nfrepro.data.options import AugmentationOptions, batch_multiple
from nfrepro.data.sources import Dataset, ImageSet
from nfrepro.errors import InputError


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Number of full batches in `count` images; an incomplete last one is dropped. Raises InputError for zero."""
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
    workers: Readers | int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the batches of one epoch from `first_step` on, the same as if the earlier ones had been taken too.

    Images are float32 [B, C, H, W], cropped, flipped, changed, normalised, mixed, in channels_last layout. Labels are
    int64 [B] or, if images are mixed, float32 [B, classes] with rows that sum to 1. Both are on the device of the data
    set. B is `batch_size`; with `rows` only these rows of each batch are returned, as they are in the whole batch.
    `workers` processes read images from files (0: this process does); given as `Readers` they outlast the epoch. The
    batches do not depend on `workers`.

    Raises InputError if the data set is smaller than a batch, the epoch has no step `first_step` (the number of steps
    itself is allowed: nothing is left), or the batch has no such rows or does not divide as `options` demand.
    """
    steps = steps_per_epoch(len(dataset.train), batch_size)
    if not 0 <= first_step <= steps:
        raise InputError(f"first step {first_step:,} is not one of the {steps:,} steps of an epoch")
    multiple = batch_multiple(options)
    if batch_size % multiple:
        raise InputError(f"batch size {batch_size:,} is not a multiple of {multiple:,}, as mixing and copies require")
    rows = range(batch_size) if rows is None else rows
    if not (0 <= rows.start < rows.stop <= batch_size and rows.step == 1):
        raise InputError(f"{rows} are not consecutive rows of a batch of {batch_size:,}")
    batches = Batches(options, batch_size, range(first_step, steps), rows)
    return _train_batches(dataset, batches, draw_epoch(len(dataset.train), options, seed, epoch), workers)


def test_batches(
    dataset: Dataset,
    batch_size: int,
    workers: Readers | int = 0,  # noqa: PT028
    rows: range | None = None,  # noqa: PT028
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the test split, or its `rows`, in fixed order, including an incomplete last batch.

    Images are float32 [B, C, H, W], normalised, in channels_last layout; labels are int64 [B]. Raises InputError for a
    batch size below 1.
    """
    _require_positive(batch_size)
    return _test_batches(dataset, batch_size, workers, range(len(dataset.test)) if rows is None else rows)


@dataclass(frozen=True)
class Batches:
    """The rows and steps of an epoch that are wanted."""

    options: AugmentationOptions
    batch_size: int
    steps: range
    rows: range

    @property
    def needed(self) -> range:
        """The rows of a batch needed to make `rows`: with their partners, if images are mixed."""
        if self.options.mixing == "none":
            return self.rows
        group = mixing.pair_rows(self.options.copies)
        return range(self.rows.start // group * group, -(-self.rows.stop // group) * group)

    def in_epoch(self, step: int) -> range:
        """The `needed` rows of a step, numbered through the epoch."""
        first = step * self.batch_size
        return range(first + self.needed.start, first + self.needed.stop)


def _train_batches(
    dataset: Dataset, batches: Batches, epoch: Epoch, workers: Readers | int
) -> Iterator[tuple[Tensor, Tensor]]:
    split, mixed = dataset.train, batches.options.mixing != "none"
    normalisation = Normalisation.of(dataset, split.pixels)
    parts = [batches.in_epoch(step) for step in batches.steps]
    for part, images in zip(parts, _augmented(split, epoch, parts, workers), strict=True):
        x = normalisation(images.permute(0, 2, 3, 1))
        labels = split.labels[_images(epoch, part, split.device)]
        yield _mixed(x, labels, dataset.num_classes, batches, epoch, part) if mixed else (x, labels)


def _augmented(
    split: ImageSet | ImageFiles, epoch: Epoch, parts: Sequence[range], workers: Readers | int
) -> Iterator[Tensor]:
    """Yields augmented images uint8 [B, C, H, W] for each of `parts`, on the device of the split."""
    if isinstance(split, ImageFiles):
        with opened(workers, split.device) as readers:
            yield from readers.read(partial(split.train_piece, epoch), parts)
        return
    for part in parts:
        images = split.images[_images(epoch, part, split.device)]
        yield augment(images, epoch.augmentation(part), epoch.options)


def _mixed(
    images: Tensor, labels: Tensor, classes: int, batches: Batches, epoch: Epoch, part: range
) -> tuple[Tensor, Tensor]:
    options, needed = batches.options, batches.needed
    numbers = epoch.uniform("mixing", part, mixing.NUMBERS)
    how = mixing.draw_mix(options, batches.batch_size, needed, images.shape[-1], numbers)
    x, targets = mixing.mix(images, mixing.soft_targets(labels, classes), how, options.copies)
    wanted = slice(batches.rows.start - needed.start, batches.rows.stop - needed.start)
    return x[wanted], targets[wanted]


def _images(epoch: Epoch, part: range, device: torch.device) -> Tensor:
    return torch.from_numpy(epoch.images[part.start : part.stop]).to(device, non_blocking=True)


def _test_batches(
    dataset: Dataset, batch_size: int, workers: Readers | int, rows: range
) -> Iterator[tuple[Tensor, Tensor]]:
    split = dataset.test
    parts = [range(start, min(start + batch_size, rows.stop)) for start in rows[::batch_size]]
    for part, images in zip(parts, _normalised(dataset, parts, workers), strict=True):
        yield images, split.labels[part.start : part.stop]


def _normalised(dataset: Dataset, parts: Sequence[range], workers: Readers | int) -> Iterator[Tensor]:
    split = dataset.test
    if isinstance(split, ImageFiles):
        with opened(workers, split.device) as readers:
            for images in readers.read(split.test_piece, parts):
                yield images.contiguous(memory_format=torch.channels_last)
        return
    normalisation = Normalisation.of(dataset, split.pixels)
    for part in parts:
        yield normalisation(split.images[part.start : part.stop].permute(0, 2, 3, 1))


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Normalises pixel values 0..255 to mean 0 and standard deviation 1 over the train split.

    `mean`, `std`: [H, W, C], each channel's value repeated: much faster on the CPU than broadcasting [C].
    """

    mean: Tensor
    std: Tensor

    @staticmethod
    def of(dataset: Dataset, pixels: int) -> "Normalisation":
        mean, std = torch.tensor(dataset.mean, device=dataset.device), torch.tensor(dataset.std, device=dataset.device)
        size = (pixels, pixels, dataset.channels)
        return Normalisation(mean.expand(size).contiguous(), std.expand(size).contiguous())

    def __call__(self, images: Tensor) -> Tensor:
        """Normalises uint8 [B, H, W, C] to float32 [B, C, H, W] in channels_last layout."""
        values = images.to(torch.float32, memory_format=torch.contiguous_format)
        return values.div_(255).sub_(self.mean).div_(self.std).permute(0, 3, 1, 2)


def _require_positive(batch_size: int) -> None:
    if batch_size < 1:
        raise InputError(f"batch size {batch_size} is less than 1")
