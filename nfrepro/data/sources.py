"""Data sets as tensors."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nfrepro.data.arrays import Arrays, Listing, NamedFiles, Split
from nfrepro.data.catalog import SOURCES, MadeSource
from nfrepro.data.evaluation_images import IMAGENET_MEAN, IMAGENET_STD
from nfrepro.data.image_files import ImageFiles
from nfrepro.data.location import find
from nfrepro.data.options import DataOptions, ImageNetOptions
from nfrepro.errors import InputError
from nfrepro.plugins.sources import own_names, source_of
from nfrepro.seeding import stream_seed

# Images counted at a time: bounds the memory the pixel statistics need.
STATISTICS_CHUNK = 1024
# Files whose size is queried at a time: a shared file system is slow to answer, but answers many at once.
SIZE_THREADS = 32


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images held in memory. `images`: uint8 [N, C, H, W]; `labels`: int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.images.device

    @property
    def channels(self) -> int:
        return self.images.shape[1]

    @property
    def pixels(self) -> int:
        return self.images.shape[2]

    def to(self, device: torch.device | str) -> "ImageSet":
        return ImageSet(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set as used: both splits held in memory, or both read from files.

    `mean`, `std`: per channel, for values in 0..1, over the full train split, before any subset is taken; ImageNet's if
    read from files. `label`: the name shown to users. `fingerprint`: 16 hex digits of the SHA-256 of the images and
    labels of train, then of test; if read from files, of their names and sizes.
    """

    train: ImageSet | ImageFiles
    test: ImageSet | ImageFiles
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    label: str
    fingerprint: str
    left_out: int = 0  # other files in its folders

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def device(self) -> torch.device:
        """The device of the batches and, if held in memory, of the images."""
        return self.train.device

    @property
    def channels(self) -> int:
        return self.train.channels

    @property
    def pixels(self) -> int:
        """Side of the square training images in pixels."""
        return self.train.pixels

    @property
    def provenance(self) -> dict[str, Any]:
        """The record of the images in a result: which copy was used, how many images, and their normalisation."""
        return {
            "data": self.label,
            "data_fingerprint": self.fingerprint,
            "data_mean": list(self.mean),
            "data_std": list(self.std),
            "train_images": len(self.train),
            "test_images": len(self.test),
            "files_left_out": self.left_out,
        }

    def to(self, device: torch.device | str) -> "Dataset":
        """The same data set with its tensors on `device`."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def load_once(options: DataOptions, seed: int = 0) -> Dataset:
    """Loads like `load`, but only once in a worker that executes several runs on the same data."""
    return _load_once(options, seed if _is_drawn_by_seed(options) else 0, source_of(own_names(options)))


@lru_cache(maxsize=1)
def _load_once(options: DataOptions, seed: int, source: str | None) -> Dataset:
    """Cached `load`; `source` distinguishes states of a user's own code."""
    return load(options, seed)


def load(options: DataOptions, seed: int = 0) -> Dataset:
    """Reads a data set that `locate` found or fetched; its files are checked while they are read.

    `seed` is the run's; it draws the training images if `train_subset` says so. For ImageNet only the names and sizes
    of the files are read. Raises InputError if the data set is not found, a file is altered, or more images are asked
    for than there are.
    """
    source = SOURCES[type(options)]
    found = (
        source.make(options) if isinstance(source, MadeSource) else source.read(options, find(source.files(options)))
    )
    return _in_memory(found, options, seed) if isinstance(found, Arrays) else _in_files(found, options, seed)


def _is_drawn_by_seed(options: DataOptions) -> bool:
    return getattr(options, "train_subset", "fixed") == "by_seed" and options.train_images is not None


def _train_subset(options: DataOptions, seed: int) -> int:
    """The seed of the stream that draws the training images."""
    return stream_seed("train-subset", seed) if _is_drawn_by_seed(options) else stream_seed("train-subset")


def _in_memory(arrays: Arrays, options: DataOptions, seed: int) -> Dataset:
    mean, std = (arrays.mean, arrays.std) if arrays.mean and arrays.std else _statistics(arrays.train.images)
    train = _part(arrays.train, options.train_images, "train", arrays.label, _train_subset(options, seed))
    test = _part(arrays.test, options.test_images, "test", arrays.label, stream_seed("test-subset"))
    # Runs that draw images by their seed count as runs on the same data: the images that they draw from.
    identified = arrays.train if _is_drawn_by_seed(options) else train
    return Dataset(
        train=_tensors(train),
        test=_tensors(test),
        classes=arrays.classes,
        mean=mean,
        std=std,
        label=arrays.label,
        fingerprint=_fingerprint(identified, test),
        left_out=arrays.left_out,
    )


def _in_files(listing: Listing, options: DataOptions, seed: int) -> Dataset:
    assert isinstance(options, ImageNetOptions)
    train = _named_part(listing.train, options.train_images, "train", listing.label, _train_subset(options, seed))
    test = _named_part(listing.test, options.test_images, "test", listing.label, stream_seed("test-subset"))
    identified = listing.train if _is_drawn_by_seed(options) else train
    return Dataset(
        train=_image_files(listing, train, options.pixels),
        test=_image_files(listing, test, options.test_pixels or options.pixels),
        classes=listing.classes,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        label=listing.label,
        fingerprint=_listing_fingerprint(listing, identified, test),
        left_out=listing.left_out,
    )


def _part(split: Split, count: int | None, name: str, label: str, seed: int) -> Split:
    chosen = _subset(len(split.labels), count, name, label, seed)
    return split if chosen is None else Split(split.images[chosen], split.labels[chosen])


def _named_part(split: NamedFiles, count: int | None, name: str, label: str, seed: int) -> NamedFiles:
    chosen = _subset(len(split.labels), count, name, label, seed)
    return split if chosen is None else NamedFiles(split.names[chosen], split.labels[chosen])


def _subset(available: int, count: int | None, name: str, label: str, seed: int) -> NDArray[np.int64] | None:
    """A random choice of `count` images, by `seed`, in original order; a smaller choice is part of a larger one.

    Returns None if all images are used.
    """
    if count is None or count == available:
        return None
    if count > available:
        raise InputError(
            f"{label}: {name}_images {count:,} is more than the {available:,} {name} images there are: "
            f"ask for {available:,} at most"
        )
    generator = torch.Generator().manual_seed(seed)
    chosen: NDArray[np.int64] = torch.randperm(available, generator=generator)[:count].sort().values.numpy()
    return chosen


def _statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of values in 0..1, exact: from counts of the 256 pixel values."""
    counts = np.zeros((images.shape[1], 256), np.int64)
    for start in range(0, len(images), STATISTICS_CHUNK):
        for channel, total in enumerate(counts):
            total += np.bincount(images[start : start + STATISTICS_CHUNK, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    variance = (counts * (values - mean[:, np.newaxis]) ** 2).sum(1) / counts.sum(1)
    # A constant channel is left unscaled rather than divided by zero.
    std = np.where(variance > 0, np.sqrt(variance), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())


def _tensors(split: Split) -> ImageSet:
    return ImageSet(torch.from_numpy(np.ascontiguousarray(split.images)), torch.from_numpy(split.labels))


def _fingerprint(train: Split, test: Split) -> str:
    digest = hashlib.sha256()
    for array in (train.images, train.labels, test.images, test.labels):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _image_files(listing: Listing, split: NamedFiles, pixels: int) -> ImageFiles:
    return ImageFiles(listing.folder, split.names, torch.from_numpy(split.labels), pixels)


def _listing_fingerprint(listing: Listing, train: NamedFiles, test: NamedFiles) -> str:
    digest = hashlib.sha256()
    with ThreadPoolExecutor(SIZE_THREADS) as pool:
        for split in (train, test):
            for name, size in zip(split.names, pool.map(partial(_size, listing.folder), split.names), strict=True):
                digest.update(bytes(name) + b"\0%d\n" % size)
    return digest.hexdigest()[:16]


def _size(folder: Path, name: np.bytes_) -> int:
    path = folder / os.fsdecode(name)
    try:
        return path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): replace it or delete it") from None


def training_sample(dataset: Dataset, count: int) -> Dataset:
    """`dataset` with `count` of its training images, or all if it has fewer, in place of its test images.

    The choice is random, since folders list images class by class, but fixed. Images are not augmented.
    """
    split = dataset.train
    generator = torch.Generator().manual_seed(stream_seed("train-sample"))
    chosen = torch.randperm(len(split), generator=generator)[:count].sort().values
    labels = split.labels[chosen.to(split.labels.device)]
    if isinstance(split, ImageFiles):
        sample: ImageSet | ImageFiles = replace(split, names=split.names[np.asarray(chosen)], labels=labels)
    else:
        sample = ImageSet(split.images[chosen.to(split.device)], labels)
    return replace(dataset, test=sample)
