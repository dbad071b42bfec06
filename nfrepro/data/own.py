"""Your own data sets: a function, given by name, returns the images."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrepro.data.arrays import Arrays, Split
from nfrepro.data.options import LOADER, OwnDataOptions
from nfrepro.errors import InputError
from nfrepro.plugins.loading import load
from nfrepro.plugins.sources import source_of

LARGEST_CLASS = 100_000
_FORM = "(train images, train labels, test images, test labels), or two torch Datasets of (image, label)"


def make(options: OwnDataOptions) -> Arrays:
    """The images that `options.name` returns. Raises `InputError` if it cannot be imported or returns anything else.

    Images are square and uint8, [N, C, H, W] or, for one channel, [N, H, W]; labels are integers from 0.
    """
    return _make(options, source_of([options.name]))


@lru_cache(maxsize=1)
def _make(options: OwnDataOptions, source: str | None) -> Arrays:
    """Cached `make`; `source` distinguishes states of the user's code."""
    found = load(options.name, options.options, LOADER)(**options.options)
    if not isinstance(found, Sequence) or len(found) not in (2, 4):
        raise InputError(f"data {options.name}: has to return {_FORM}, not {_described(found)}")
    parts = found if len(found) == 4 else [part for dataset in found for part in _columns(options.name, dataset)]
    train, test = (_split(options.name, which, *parts[at : at + 2]) for which, at in (("train", 0), ("test", 2)))
    if train.images.shape[1:] != test.images.shape[1:]:
        shapes = " and ".join(str(list(split.images.shape[1:])) for split in (train, test))
        raise InputError(f"data {options.name}: train and test images differ in shape: {shapes}")
    classes = 1 + int(max(train.labels.max(), test.labels.max()))
    return Arrays(train, test, tuple(map(str, range(classes))), options.name)


def _columns(name: str, dataset: Any) -> tuple[Any, Any]:
    """Images and labels of a torch Dataset, or of any sequence of pairs."""
    try:
        pairs: Iterable[Any] = [dataset[number] for number in range(len(dataset))]
        images, labels = zip(*pairs, strict=True)
        return np.stack([_image(image) for image in images]), np.array([int(label) for label in labels])
    except (TypeError, ValueError) as error:
        raise InputError(f"data {name}: {_described(dataset)} is not a Dataset of (image, label): {error}") from None


def _image(image: Any) -> NDArray[Any]:
    """An image as an array [C, H, W] or [H, W]; PIL images have their channels last."""
    array = np.asarray(image)
    is_picture = type(image).__module__.startswith("PIL.")
    return array.transpose(2, 0, 1) if is_picture and array.ndim == 3 else array


def _split(name: str, which: str, images: Any, labels: Any) -> Split:
    images, labels = np.asarray(images), np.asarray(labels)
    where = f"data {name}: {which}"
    if images.ndim == 3:
        images = images[:, np.newaxis]
    if images.dtype != np.uint8:
        raise InputError(f"{where} images are {images.dtype}: they have to be uint8, from 0 to 255")
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise InputError(f"{where} images are {list(images.shape)}: they have to be square, [N, C, H, W] or [N, H, W]")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or len(labels) != len(images):
        raise InputError(f"{where} labels are {labels.dtype} {list(labels.shape)}: give {len(images)} whole numbers")
    if not len(labels):
        raise InputError(f"{where} images: there are none")
    if labels.min() < 0 or labels.max() >= LARGEST_CLASS:
        raise InputError(f"{where} labels go from {labels.min()} to {labels.max()}: number the classes from 0")
    return Split(np.ascontiguousarray(images), labels.astype(np.int64))


def _described(value: Any) -> str:
    return f"{len(value)} things" if isinstance(value, tuple | list) else type(value).__name__
