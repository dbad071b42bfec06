"""Options of the data sets. No torch."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from nfrepro.options import Options


class AugmentationOptions(Options):
    """Random changes to a training image; test images are never changed."""

    # Zero pixels put around the image before a random crop back to its size; 0 = no crop.
    crop_padding: int = Field(default=4, ge=0, le=64)

    # Mirror left-right with probability 1/2.
    flip: bool = True


class StoredImagesOptions(AugmentationOptions):
    """What the data sets read from files have in common."""

    # Training images used, a fixed random subset that depends on no seed; null = all.
    train_images: int | None = Field(default=None, ge=1)

    # Test images used, a fixed random subset that depends on no seed; null = all.
    test_images: int | None = Field(default=None, ge=1)


class FashionMNISTOptions(StoredImagesOptions):
    """Fashion-MNIST: 60,000 + 10,000 grey images of 28×28 pixels, 10 classes."""

    # Which data set.
    name: Literal["fashion_mnist"] = "fashion_mnist"


class CIFAR10Options(StoredImagesOptions):
    """CIFAR-10: 50,000 + 10,000 RGB images of 32×32 pixels, 10 classes."""

    # Which data set.
    name: Literal["cifar10"] = "cifar10"


class ImageFolderOptions(StoredImagesOptions):
    """Your own images: `<folder>/train/<class>/*.jpg` and `<folder>/test/<class>/*.jpg` (or `val`), read as RGB."""

    # Which data set.
    name: Literal["image_folder"] = "image_folder"

    # Folder below a data root ($NFREPRO_DATA, ./data): a name or a relative path, say `flowers` or `mine/flowers`.
    folder: str = Field(max_length=200)

    # Side of the square image in pixels: the shorter side is resized to it, then the centre is cut out.
    pixels: int = Field(ge=1, le=1024)

    @field_validator("folder")
    @classmethod
    def _stays_below_the_roots(cls, folder: str) -> str:
        # Names that begin with a word character: neither absolute, `..`, `.`, `~` nor a drive can be written.
        name = r"\w[\w. -]*"
        if not re.fullmatch(rf"{name}(/{name})*", folder):
            raise ValueError(
                f"folder {folder!r} is not a name or relative path below a data root: use letters, digits, "
                "'_', '-', '.', ' ' and '/', no leading '/' or '.' and no '..'"
            )
        return folder


class SyntheticOptions(AugmentationOptions):
    """Made up, no files: each class is a smooth random pattern, each image its class's pattern plus noise."""

    # Which data set.
    name: Literal["synthetic"] = "synthetic"

    # Number of classes.
    classes: int = Field(default=10, ge=2, le=1000)

    # Channels of an image.
    channels: int = Field(default=1, ge=1, le=16)

    # Side of the square image in pixels.
    pixels: int = Field(default=16, ge=1, le=256)

    # Number of training images.
    train_images: int = Field(default=1024, ge=1, le=1_000_000)

    # Number of test images.
    test_images: int = Field(default=256, ge=1, le=1_000_000)

    # Chooses the patterns and the noise; independent of a run's seed.
    data_seed: int = Field(default=0, ge=0, lt=2**31)


DataOptions = Annotated[
    FashionMNISTOptions | CIFAR10Options | ImageFolderOptions | SyntheticOptions, Field(discriminator="name")
]
