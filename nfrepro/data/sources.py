"""Data sets as tensors."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nfrepro.data.arrays import Arrays, Split
from nfrepro.data.catalog import SOURCES, StoredSource
from nfrepro.data.location import find
from nfrepro.data.options import DataOptions
from nfrepro.errors import InputError
from nfrepro.seeding import stream_seed

# Images counted at a time: bounds the memory the pixel statistics need.
STATISTICS_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class ImageSet:
    """`images`: uint8 [N, C, H, W]; `labels`: int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "ImageSet":
        return ImageSet(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set as used.

    `mean`, `std`: per channel, of values in 0..1, over the full train split, before any subset is taken.
    `label`: its name for people. `fingerprint`: 16 hex digits of the SHA-256 of the images and labels of train, then
    of test.
    """

    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    label: str
    fingerprint: str

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def channels(self) -> int:
        return self.train.images.shape[1]

    @property
    def pixels(self) -> int:
        """Side of the square images in pixels."""
        return self.train.images.shape[2]

    def to(self, device: torch.device | str) -> "Dataset":
        """The same with its tensors on `device`."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def load(options: DataOptions) -> Dataset:
    """Reads a data set that `locate` found or fetched; its files are checked while they are read.

    Raises InputError where it is not found, a file is altered, or more images are asked for than there are.
    """
    arrays = _read(options)
    mean, std = (arrays.mean, arrays.std) if arrays.mean and arrays.std else _statistics(arrays.train.images)
    train = _subset(arrays.train, options.train_images, "train", arrays.label)
    test = _subset(arrays.test, options.test_images, "test", arrays.label)
    return Dataset(
        train=_tensors(train),
        test=_tensors(test),
        classes=arrays.classes,
        mean=mean,
        std=std,
        label=arrays.label,
        fingerprint=_fingerprint(train, test),
    )


def _read(options: DataOptions) -> Arrays:
    source = SOURCES[type(options)]
    if isinstance(source, StoredSource):
        return source.read(options, find(source.files(options)))
    return source.make(options)


def _subset(split: Split, count: int | None, name: str, label: str) -> Split:
    """A fixed random choice of `count` images, in their original order; a smaller one is part of a larger one."""
    available = len(split.labels)
    if count is None or count == available:
        return split
    if count > available:
        raise InputError(
            f"{label}: {name}_images {count:,} is more than the {available:,} {name} images there are: "
            f"ask for {available:,} at most"
        )
    generator = torch.Generator().manual_seed(stream_seed(f"{name}-subset"))
    chosen = torch.randperm(available, generator=generator)[:count].sort().values.numpy()
    return Split(split.images[chosen], split.labels[chosen])


def _statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of values in 0..1, exact: from counts of the 256 pixel values."""
    counts = np.zeros((images.shape[1], 256), np.int64)
    for start in range(0, len(images), STATISTICS_CHUNK):
        for channel, total in enumerate(counts):
            total += np.bincount(images[start : start + STATISTICS_CHUNK, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    variance = (counts * (values - mean[:, np.newaxis]) ** 2).sum(1) / counts.sum(1)
    # A channel of one value only is left unscaled rather than divided by zero.
    std = np.where(variance > 0, np.sqrt(variance), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())


def _tensors(split: Split) -> ImageSet:
    return ImageSet(torch.from_numpy(np.ascontiguousarray(split.images)), torch.from_numpy(split.labels))


def _fingerprint(train: Split, test: Split) -> str:
    digest = hashlib.sha256()
    for array in (train.images, train.labels, test.images, test.labels):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
