"""Size and number of the images of a data set, without reading its files where possible. No torch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from nfrepro.data import image_folder, own
from nfrepro.data.image_tree import list_tree
from nfrepro.data.location import find
from nfrepro.data.options import (
    CIFAR10Options,
    DataOptions,
    FashionMNISTOptions,
    ImageFolderOptions,
    ImageNetOptions,
    OwnDataOptions,
    SyntheticOptions,
)

# For ImageNet-1k (ILSVRC 2012); for another number of classes, counts are scaled, which is not exact.
IMAGENET_TRAIN_IMAGES, IMAGENET_TEST_IMAGES, IMAGENET_CLASSES = 1_281_167, 50_000, 1000


@dataclass(frozen=True)
class ImageSizes:
    """Images of `channels` x `pixels` x `pixels`, in `classes` classes."""

    channels: int
    pixels: int
    test_pixels: int
    classes: int
    train_images: int
    test_images: int
    listing: str | None = None  # for a folder on this machine: which of its files are used and left out


def image_sizes(options: DataOptions) -> ImageSizes:
    """The image sizes that a run with `options` sees. Raises `InputError` if the image folder is missing.

    A user's own function is called to load its images.
    """
    whole = SIZES[type(options)](options)
    return replace(
        whole,
        train_images=options.train_images or whole.train_images,
        test_images=options.test_images or whole.test_images,
    )


def _image_folder(options: ImageFolderOptions) -> ImageSizes:
    tree = list_tree(find(image_folder.files(options)))
    train, test = (sum(map(len, split.values())) for split in (tree.train, tree.test))
    pixels, line = options.pixels, f"image folder {options.folder}: {tree}"
    return ImageSizes(3, pixels, options.test_pixels or pixels, len(tree.classes), train, test, line)


def _imagenet(options: ImageNetOptions) -> ImageSizes:
    train, test = (round(n * options.classes / IMAGENET_CLASSES) for n in (IMAGENET_TRAIN_IMAGES, IMAGENET_TEST_IMAGES))
    return ImageSizes(3, options.pixels, options.test_pixels or options.pixels, options.classes, train, test)


def _synthetic(options: SyntheticOptions) -> ImageSizes:
    pixels = options.pixels
    return ImageSizes(options.channels, pixels, pixels, options.classes, options.train_images, options.test_images)


def _own(options: OwnDataOptions) -> ImageSizes:
    """Loads the images, because nothing else tells their size and number."""
    made = own.make(options)
    (train, channels, pixels, _), test = made.train.images.shape, len(made.test.labels)
    return ImageSizes(channels, pixels, pixels, len(made.classes), train, test)


SIZES: dict[type[Any], Callable[[Any], ImageSizes]] = {
    FashionMNISTOptions: lambda options: ImageSizes(1, 28, 28, 10, 60_000, 10_000),
    CIFAR10Options: lambda options: ImageSizes(3, 32, 32, 10, 50_000, 10_000),
    ImageFolderOptions: _image_folder,
    ImageNetOptions: _imagenet,
    SyntheticOptions: _synthetic,
    OwnDataOptions: _own,
}
