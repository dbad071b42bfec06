"""Sizes known without the images are those of the images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from nfrepro.data.location import locate
from nfrepro.data.options import DataOptions
from nfrepro.data.sizes import ImageSizes, image_sizes
from nfrepro.data.sources import load
from nfrepro.errors import InputError


def parse(**options: Any) -> Any:
    return TypeAdapter(DataOptions).validate_python(options)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "synthetic", "classes": 3, "channels": 2, "pixels": 8, "train_images": 12, "test_images": 6},
        {"name": "fashion_mnist"},
        {"name": "fashion_mnist", "train_images": 100, "test_images": 10},
        {"name": "image_folder", "folder": "flowers", "pixels": 6},
    ],
)
def test_sizes_are_those_of_the_data(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if options["name"] == "image_folder":
        write_flowers(tmp_path / "flowers")
        monkeypatch.setenv("NFREPRO_DATA", str(tmp_path))
    parsed = parse(**options)
    try:
        locate(parsed, fetch=False)
    except InputError as error:
        pytest.skip(str(error))
    dataset = load(parsed)
    found = image_sizes(parsed)
    if options["name"] == "image_folder":
        assert found.listing == "image folder flowers: 4 training and 3 test images in 2 classes"
    assert replace(found, listing=None) == ImageSizes(
        channels=dataset.channels,
        pixels=dataset.pixels,
        test_pixels=dataset.test.images.shape[2],
        classes=dataset.num_classes,
        train_images=len(dataset.train),
        test_images=len(dataset.test),
    )


def test_imagenet_needs_no_files() -> None:
    whole = image_sizes(parse(name="imagenet", pixels=192, test_pixels=256))
    assert whole == ImageSizes(3, 192, 256, 1000, 1_281_167, 50_000)
    assert image_sizes(parse(name="imagenet", classes=100)).train_images == 128_117
    assert image_sizes(parse(name="cifar10", train_images=5000)) == ImageSizes(3, 32, 32, 10, 5000, 10_000)


def test_an_image_folder_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="image folder nowhere: not found"):
        image_sizes(parse(name="image_folder", folder="nowhere", pixels=6))


def write_flowers(folder: Path) -> None:
    """Two classes, of 3 and 1 training and 1 and 2 test images."""
    for split, name, count in (("train", "a", 3), ("train", "b", 1), ("test", "a", 1), ("test", "b", 2)):
        (folder / split / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.full((9, 7, 3), 40 * number, np.uint8)).save(folder / split / name / f"{number}.png")
