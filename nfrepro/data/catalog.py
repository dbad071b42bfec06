"""The table of data sets. A new one: its options in `options`, its module, and one entry here. No torch at import."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nfrepro.data import cifar10, fashion_mnist, image_folder, synthetic
from nfrepro.data.arrays import Arrays
from nfrepro.data.options import CIFAR10Options, FashionMNISTOptions, ImageFolderOptions, SyntheticOptions
from nfrepro.data.places import Files


@dataclass(frozen=True)
class StoredSource:
    """A data set in files: where they are, and their reader, given the options and the place found."""

    files: Callable[[Any], Files]
    read: Callable[[Any, Path], Arrays]


@dataclass(frozen=True)
class MadeSource:
    """A data set made from its options alone."""

    make: Callable[[Any], Arrays]


SOURCES: dict[type[Any], StoredSource | MadeSource] = {
    FashionMNISTOptions: StoredSource(fashion_mnist.files, fashion_mnist.read),
    CIFAR10Options: StoredSource(cifar10.files, cifar10.read),
    ImageFolderOptions: StoredSource(image_folder.files, image_folder.read),
    SyntheticOptions: MadeSource(synthetic.make),
}
