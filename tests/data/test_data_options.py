import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from nfrepro.data.options import (
    CIFAR10Options,
    DataOptions,
    FashionMNISTOptions,
    ImageFolderOptions,
    ImageNetOptions,
    SyntheticOptions,
)

DATA_OPTIONS = TypeAdapter(DataOptions)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"name": "fashion_mnist"}, FashionMNISTOptions()),
        ({"name": "cifar10", "train_images": 7}, CIFAR10Options(train_images=7)),
        ({"name": "image_folder", "folder": "a/b", "pixels": 8}, ImageFolderOptions(folder="a/b", pixels=8)),
        ({"name": "imagenet", "classes": 4}, ImageNetOptions(classes=4)),
        ({"name": "synthetic", "flip": False}, SyntheticOptions(flip=False)),
    ],
)
def test_the_name_chooses_the_class(document, expected):
    read = DATA_OPTIONS.validate_python(document)
    assert type(read) is type(expected)
    assert read == expected


def test_defaults():
    options = FashionMNISTOptions()
    assert (options.train_images, options.test_images, options.crop_padding, options.flip) == (None, None, 4, True)
    assert (options.crop, options.randaugment_layers, options.mixing, options.copies) == ("padded", 0, "none", 1)
    imagenet = ImageNetOptions()
    assert (imagenet.folder, imagenet.classes, imagenet.pixels, imagenet.crop) == ("imagenet", 1000, 224, "inception")


@pytest.mark.parametrize(
    "document",
    [
        {"name": "imagenet21k"},
        {"train_images": 3},
        {"name": "cifar10", "train_imags": 3},
        {"name": "cifar10", "train_images": 0},
        {"name": "cifar10", "train_images": "100"},
        {"name": "cifar10", "crop_padding": -1},
        {"name": "cifar10", "flip": 1},
        {"name": "cifar10", "test_pixels": 40},
        {"name": "cifar10", "crop": "random"},
        {"name": "cifar10", "mixing": None},
        {"name": "cifar10", "mixup_alpha": 0.0},
        {"name": "cifar10", "randaugment_layers": 9},
        {"name": "cifar10", "randaugment_magnitude": 31},
        {"name": "cifar10", "copies": 0},
        {"name": "imagenet", "classes": 1},
        {"name": "imagenet", "folder": "../imagenet"},
        {"name": "synthetic", "channels": 2, "randaugment_layers": 1},
        {"name": "image_folder", "pixels": 8},
        {"name": "image_folder", "folder": "a", "pixels": 0},
        {"name": "synthetic", "train_images": None},
        {"name": "synthetic", "classes": 1},
    ],
)
def test_refuses(document):
    with pytest.raises(ValidationError):
        DATA_OPTIONS.validate_python(document)


@pytest.mark.parametrize(
    "folder",
    [
        *("", ".", "..", "/", "/etc", "../secret", "a/../../b", "a/..", "a/./b", "a//b", "a/", "~", "~root/x", "C:\\x"),
        *("a\\..\\b", "C:/x", "a\0b", "a\n", "a\nb", ".hidden", "a/.hidden", "$HOME/x", "x" * 201),
    ],
)
def test_a_folder_cannot_leave_the_data_roots(folder):
    with pytest.raises(ValidationError, match="folder"):
        ImageFolderOptions(folder=folder, pixels=8)


@pytest.mark.parametrize("folder", ["flowers", "mine/flowers-17", "v1.2/x_y", "my images", "größe"])
def test_ordinary_folder_names(folder):
    assert ImageFolderOptions(folder=folder, pixels=8).folder == folder


def test_options_and_location_need_no_torch():
    program = (
        "import sys, nfrepro.data.options, nfrepro.data.location as location\n"
        "assert location.locate(nfrepro.data.options.SyntheticOptions()) is None\n"
        "loaded = {'torch', 'torchvision', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
