"""The table of data sets. A new one needs options in `options`, a module, and one entry here. No torch at import."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nfrepro.data import cifar10, fashion_mnist, image_folder, imagenet, own, synthetic
from nfrepro.data.arrays import Arrays, Listing
from nfrepro.data.options import (
    CIFAR10Options,
    FashionMNISTOptions,
    ImageFolderOptions,
    ImageNetOptions,
    OwnDataOptions,
    SyntheticOptions,
)
from nfrepro.data.places import Files


@dataclass(frozen=True)
class StoredSource:
    """A data set in files: where they are, and how to read them, given the options and the place found."""

    files: Callable[[Any], Files]
    read: Callable[[Any, Path], Arrays]


@dataclass(frozen=True)
class StreamedSource:
    """A data set whose files are read during training: where they are, and how to list them."""

    files: Callable[[Any], Files]
    read: Callable[[Any, Path], Listing]


@dataclass(frozen=True)
class MadeSource:
    """A data set made from its options alone."""

    make: Callable[[Any], Arrays]


SOURCES: dict[type[Any], StoredSource | StreamedSource | MadeSource] = {
    FashionMNISTOptions: StoredSource(fashion_mnist.files, fashion_mnist.read),
    CIFAR10Options: StoredSource(cifar10.files, cifar10.read),
    ImageFolderOptions: StoredSource(image_folder.files, image_folder.read),
    ImageNetOptions: StreamedSource(imagenet.files, imagenet.read),
    SyntheticOptions: MadeSource(synthetic.make),
    OwnDataOptions: MadeSource(own.make),
}
