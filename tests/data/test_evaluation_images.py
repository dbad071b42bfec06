"""Test images from files: which part is cut out, how it is resized, what is refused."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import InterpolationMode, functional

from nfrepro.data import evaluation_images
from nfrepro.data.bicubic import resize_bicubic
from nfrepro.data.evaluation_images import (
    FractionCrop,
    PaddedCrop,
    TestImages,
    central_square,
    list_test_images,
    read_batches,
    read_image,
)
from nfrepro.errors import InputError


def noise(height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("width", "height", "pixels", "padding", "square"),
    [
        # 224 / 256 of the shorter side, worked out by hand; an odd remainder leaves one pixel more before the square.
        (500, 375, 224, 32, (86, 24, 328)),
        (256, 256, 224, 32, (16, 16, 224)),
        (375, 500, 224, 32, (24, 86, 328)),
        (1000, 100, 224, 32, (457, 7, 87)),
        (333, 501, 288, 32, (17, 101, 299)),
        (1, 9, 224, 32, (0, 4, 1)),
    ],
)
def test_the_central_square(width: int, height: int, pixels: int, padding: int, square: tuple[int, int, int]) -> None:
    assert central_square(width, height, pixels, padding) == square


@pytest.mark.parametrize("pixels", [64, 192, 224, 256, 320])
def test_the_central_square_is_central_and_of_its_share(pixels: int) -> None:
    for width, height in [(500, 375), (61, 64), (2000, 35), (33, 4096), (640, 641)]:
        left, top, side = central_square(width, height, pixels, 32)
        assert 0 <= min(width, height) * pixels / (pixels + 32) - side < 1
        assert 0 <= left - (width - left - side) <= 1
        assert 0 <= top - (height - top - side) <= 1


@pytest.mark.parametrize("shape", [(40, 40), (17, 63), (64, 5)])
def test_enlarging_equals_torchvisions_bicubic(shape: tuple[int, int]) -> None:
    image = noise(*shape)
    tensor = torch.from_numpy(image).permute(2, 0, 1).double()
    theirs = functional.resize(tensor, [97, 97], InterpolationMode.BICUBIC, antialias=True)
    np.testing.assert_allclose(resize_bicubic(image, 97), theirs.numpy(), atol=1e-3)


def test_reducing_is_the_kernel_without_antialiasing() -> None:
    # Written out as a sum over all pixels, each direction with Keys' kernel, a = -1/2, rescaled at the edges.
    def kernel(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    def weights(length: int, pixels: int) -> Any:
        rows = [[kernel((i + 0.5) * length / pixels - 0.5 - j) for j in range(length)] for i in range(pixels)]
        return np.array(rows) / np.sum(rows, axis=1, keepdims=True)

    image = noise(53, 71)
    expected = np.einsum("ih,hwc,jw->cij", weights(53, 20), image.astype(float), weights(71, 20))
    np.testing.assert_allclose(resize_bicubic(image, 20), expected, atol=1e-3)
    assert expected.min() < 0  # nothing is clamped
    assert expected.max() > 255


@pytest.mark.parametrize("size", [(53, 71), (100, 33), (64, 64), (31, 200)])
@pytest.mark.parametrize("fraction", [0.875, 0.9, 1.0])
def test_a_fraction_is_timms_transform(size: tuple[int, int], fraction: float, tmp_path: Path) -> None:
    Image.fromarray(noise(*size)).save(tmp_path / "a.png")
    theirs = create_transform((3, 48, 48), interpolation="bicubic", crop_pct=fraction)(Image.open(tmp_path / "a.png"))
    ours = read_image(tmp_path / "a.png", 48, FractionCrop(fraction))
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


def test_an_image_of_extreme_shape_needs_no_more_memory() -> None:
    assert FractionCrop(0.875)(Image.new("RGB", (60_000, 2)), 224).shape == (3, 224, 224)
    assert PaddedCrop()(Image.new("RGB", (60_000, 2)), 224).shape == (3, 224, 224)


def test_an_image_of_extreme_shape_is_cut_at_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    gradient = np.broadcast_to(np.linspace(20, 230, 300)[None, :, None], (20, 300, 3)).astype(np.uint8)
    whole = FractionCrop(0.8)(Image.fromarray(gradient), 32)
    monkeypatch.setattr(evaluation_images, "MAX_ASPECT", 1)
    np.testing.assert_allclose(FractionCrop(0.8)(Image.fromarray(gradient), 32), whole, atol=1)


def test_values_are_normalised_by_imagenets_channels(tmp_path: Path) -> None:
    Image.new("RGB", (20, 30), (255, 0, 51)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", 16, PaddedCrop())
    assert image.dtype == np.float32
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    np.testing.assert_allclose(image, np.broadcast_to(np.reshape(expected, (3, 1, 1)), (3, 16, 16)), rtol=1e-5)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_other_colours_become_rgb(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(noise(20, 24)).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path, quality=100)
    with Image.open(path) as stored:
        assert stored.mode == mode
        stored.convert("RGB").save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(
        read_image(path, 16, PaddedCrop()), read_image(tmp_path / "rgb.png", 16, PaddedCrop())
    )


@pytest.mark.parametrize("kind", ["text", "truncated", "empty", "16 bits", "huge"])
def test_a_bad_image_is_refused_by_name(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bad.png"
    Image.fromarray(noise(50, 50)).save(path)
    if kind == "text":
        path.write_text("not an image")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "16 bits":
        Image.fromarray(np.zeros((8, 8), np.uint16)).save(path)
    else:
        monkeypatch.setattr(evaluation_images.Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(InputError, match=r"bad\.png: ") as refusal:
        list(read_batches(TestImages(("a",), (path,), (0,)), 16, PaddedCrop(), 4))
    assert "\n" not in str(refusal.value)


def tree(folder: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize("split", ["", "val", "test"])
def test_classes_are_sorted_folders(split: str, tmp_path: Path) -> None:
    tree(tmp_path / split, {"n02": 3, "n01": 2, "n10": 1})
    images = list_test_images(tmp_path)
    assert images.classes == ("n01", "n02", "n10")
    assert images.labels == (0, 0, 1, 1, 1, 2)
    assert [path.relative_to(tmp_path / split).as_posix() for path in images.paths] == [
        "n01/0.png",
        "n01/1.png",
        "n02/0.png",
        "n02/1.png",
        "n02/2.png",
        "n10/0.png",
    ]


def test_a_folder_that_will_not_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        list_test_images(tmp_path / "nowhere")
    tree(tmp_path / "both" / "val", {"a": 1})
    tree(tmp_path / "both" / "test", {"a": 1})
    with pytest.raises(InputError, match="both test and val exist"):
        list_test_images(tmp_path / "both")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no class folders"):
        list_test_images(tmp_path / "empty")
    (tmp_path / "no_images" / "a").mkdir(parents=True)
    with pytest.raises(InputError, match="no_images/a: no images"):
        list_test_images(tmp_path / "no_images")
    (tmp_path / "linked").mkdir()
    for name, target in (("a", tmp_path / "both" / "val" / "a"), ("val", tmp_path / "both" / "val")):
        (tmp_path / "linked" / name).symlink_to(target)
        with pytest.raises(InputError, match="a link out of"):
            list_test_images(tmp_path / "linked")


def test_batches_are_all_images_in_order(tmp_path: Path) -> None:
    images = list_test_images(tree(tmp_path, {"a": 5, "b": 9}))
    batches = list(read_batches(images, 4, PaddedCrop(4), 3))
    assert [len(labels) for _, labels in batches] == [3, 3, 3, 3, 2]
    assert torch.cat([labels for _, labels in batches]).tolist() == [0] * 5 + [1] * 9
    reds = torch.cat([images for images, _ in batches])[:, 0, 0, 0] * 0.229 + 0.485
    assert (reds * 255).round().tolist() == [*range(5), *range(9)]
    assert all(math.isfinite(value) for value in reds.tolist())


def test_only_a_few_batches_are_decoded_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = list_test_images(tree(tmp_path, {"a": 20, "b": 20}))
    read: list[Path] = []
    original = evaluation_images.read_image
    monkeypatch.setattr(evaluation_images, "read_image", lambda path, *rest: read.append(path) or original(path, *rest))
    batches = read_batches(images, 4, PaddedCrop(4), 2)
    next(batches)
    batches.close()
    assert len(read) <= 2 * (evaluation_images.BATCHES_AHEAD + 1)
