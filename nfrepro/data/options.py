"""Options of the data sets. No torch."""

import json
import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from nfrepro.options import Options, added, renamed
from nfrepro.plugins.names import OURS, OWN, Call, OwnName, check_options, origin_of


class AugmentationOptions(Options):
    """Random changes to a training image; test images are never changed."""

    # padded: a random crop, of the image's size, from the image padded with black; inception: a random rectangle with
    # 0.08 to 1 of the area and aspect ratio 3/4 to 4/3, resized to a square, bicubic (authors' dataset.py).
    crop: Literal["padded", "inception"] = "padded"

    # For the padded crop: zero pixels added on each side before a random crop back to the image's size; 0 = no crop.
    crop_padding: int = Field(default=4, ge=0, le=64)

    # Mirror left-right with probability 1/2.
    flip: bool = True

    # RandAugment (arXiv 1909.13719): number of changes applied in turn to each image, from torchvision's 14; 0 = off.
    randaugment_layers: int = Field(default=0, ge=0, le=8)

    # RandAugment: strength of each change, as the number of one of torchvision's 31 bins.
    randaugment_magnitude: int = Field(default=10, ge=0, le=30)

    # Mixes each image and its target with another's: mixup (arXiv 1710.09412), cutmix (arXiv 1905.04899), or
    # mixup_cutmix: the first half of a batch by mixup, the second by cutmix (authors' experiment_nf_regnets.py). The
    # last needs a batch size divisible by 4, the others by 2, each times `copies`.
    mixing: Literal["none", "mixup", "cutmix", "mixup_cutmix"] = renamed("none", old_values={"half": "mixup_cutmix"})

    # MixUp: the weight of the image itself is drawn from Beta(mixup_alpha, mixup_alpha) (authors: 0.2).
    mixup_alpha: float = Field(default=0.2, gt=0)

    # Differently augmented copies of an image in a batch (arXiv 2105.13343). An epoch has the same number of steps for
    # any `copies`, and so visits 1/copies of the images. The batch size must be divisible by it.
    copies: int = Field(default=1, ge=1)


def batch_multiple(options: AugmentationOptions) -> int:
    """The number that a batch size has to be a multiple of."""
    images = {"none": 1, "mixup": 2, "cutmix": 2, "mixup_cutmix": 4}[options.mixing]
    return images * options.copies


class StoredImagesOptions(AugmentationOptions):
    """The options that data sets read from files share."""

    # Training images used, a random subset; null = all.
    train_images: int | None = Field(default=None, ge=1)

    # How the subset is drawn. fixed: the same images for all runs, so that the choice does not add to their spread;
    # by_seed: by the run's seed.
    train_subset: Literal["fixed", "by_seed"] = added("fixed")

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


class FolderOptions(StoredImagesOptions):
    """The options that data sets read from folders of images share."""

    # Folder below a data root ($NFREPRO_DATA, ./data): a name or a relative path, say `flowers` or `mine/flowers`.
    folder: str = Field(max_length=200)

    # Side of the square test images in pixels; null = that of the training images.
    test_pixels: int | None = Field(default=None, ge=1, le=1024)

    @field_validator("folder")
    @classmethod
    def _stays_below_the_roots(cls, folder: str) -> str:
        # Names begin with a word character, which rules out absolute paths, `..`, `.`, `~` and drives.
        name = r"\w[\w. -]*"
        if not re.fullmatch(rf"{name}(/{name})*", folder):
            raise ValueError(
                f"folder {folder!r} is not a name or relative path below a data root: use letters, digits, "
                "'_', '-', '.', ' ' and '/', no leading '/' or '.' and no '..'"
            )
        return folder


class ImageFolderOptions(FolderOptions):
    """Your own images: `<folder>/train/<class>/*.jpg` and `<folder>/test/<class>/*.jpg` (or `val`), read as RGB."""

    # Which data set.
    name: Literal["image_folder"] = "image_folder"

    # Side of the square image in pixels: the shorter side is resized to it, then the centre is cut out.
    pixels: int = Field(ge=1, le=1024)


class ImageNetOptions(FolderOptions):
    """ImageNet, or any set too large for memory: `<folder>/train/<class>/*.JPEG` and `<folder>/val/<class>/*.JPEG`.

    Images are decoded in every epoch by worker processes. Test images are cropped like the authors': the centre, less
    a margin of 32 pixels in total, resized (bicubic) to `test_pixels`.
    """

    # Which data set.
    name: Literal["imagenet"] = "imagenet"

    # As for an image folder.
    folder: str = Field(default="imagenet", max_length=200)

    # Number of class folders.
    classes: int = Field(default=1000, ge=2, le=100_000)

    # Side of the square training images in pixels.
    pixels: int = Field(default=224, ge=1, le=1024)

    # With `padded` the shorter side is resized to `pixels` and the centre cut out before the crop.
    crop: Literal["padded", "inception"] = "inception"


class SyntheticOptions(AugmentationOptions):
    """A generated data set without files: each class is a coarse random pattern, each image that pattern plus noise."""

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

    @model_validator(mode="after")
    def _channels_allow_the_augmentation(self) -> "SyntheticOptions":
        if self.randaugment_layers and self.channels not in (1, 3):
            raise ValueError(
                f"randaugment_layers: RandAugment takes grey and RGB images, not {self.channels} channels: "
                "use 1 or 3 channels, or 0 layers"
            )
        return self


# The arguments of a user's function that returns images, other than its options: none.
LOADER = Call()


class OwnDataOptions(StoredImagesOptions):
    """Your own images, by the name of the function that returns them: `my_pkg.data:load`."""

    # load(**options) returns (train images, train labels, test images, test labels), or two torch Datasets.
    name: OwnName

    # Keyword arguments of the function.
    options: dict[str, Any] = Field(default={}, validate_default=True)

    @field_validator("options")
    @classmethod
    def _are_taken(cls, options: dict[str, Any], earlier: ValidationInfo) -> dict[str, Any]:
        if "name" in earlier.data:
            check_options(earlier.data["name"], options, LOADER)
        return options

    def __hash__(self) -> int:
        return hash(json.dumps(self.model_dump(mode="json"), sort_keys=True))


KnownDataOptions = Annotated[
    FashionMNISTOptions | CIFAR10Options | ImageFolderOptions | ImageNetOptions | SyntheticOptions,
    Field(discriminator="name"),
]
DataOptions = Annotated[
    Annotated[KnownDataOptions, Tag(OURS)] | Annotated[OwnDataOptions, Tag(OWN)],
    Discriminator(origin_of),
]
