"""Batches to watch a signal with: noise, images of a data set, image files."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nfrepro.data.options import SyntheticOptions
from nfrepro.data.probe_batch import folder_batch, gaussian_batch, image_batch, labelled_batch
from nfrepro.data.sources import Dataset, load
from nfrepro.errors import InputError

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet's


def generator(seed: int) -> torch.Generator:
    number = int.from_bytes(hashlib.sha256(f"probe:{seed}".encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(number)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load(SyntheticOptions(classes=3, channels=2, pixels=16, train_images=30, test_images=3))


def pixels_of(batch: Tensor) -> np.ndarray:
    """[B, 3, H, W] as grey levels again."""
    return (batch.double().numpy() * STD[:, None, None] + MEAN[:, None, None]) * 255


def picture(width: int = 20, height: int = 20, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def test_gaussian_noise() -> None:
    x = gaussian_batch(4, 3, 64, 7)
    assert (x.dtype, tuple(x.shape)) == (torch.float32, (4, 3, 64, 64))
    assert torch.equal(x, torch.randn(4, 3, 64, 64, generator=generator(7)))
    # 49152 numbers: an error of 0.0045 in the mean, of 0.0064 in the variance; neighbours are independent.
    assert abs(x.mean().item()) < 0.02
    assert abs(x.var().item() - 1) < 0.03
    assert abs((x[..., 1:] * x[..., :-1]).mean().item()) < 0.02
    assert not torch.equal(x, gaussian_batch(4, 3, 64, 8))


def test_the_global_generator_is_left_alone(dataset: Dataset) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    gaussian_batch(2, 3, 8, 0)
    image_batch(dataset, 4, 16, 0)
    assert torch.equal(torch.rand(1), expected)


def test_images_are_chosen_by_the_seed_and_normalised(dataset: Dataset) -> None:
    x = image_batch(dataset, 30, 16, 5)
    images = dataset.train.images.double().numpy() / 255
    mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3))
    expected = (images - mean[:, None, None]) / std[:, None, None]
    order = torch.randperm(30, generator=generator(5)).numpy()
    np.testing.assert_allclose(x.numpy(), expected[order], atol=1e-5)
    # All of them: mean 0 and variance 1 a channel.
    np.testing.assert_allclose(x.double().mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(x.double().var((0, 2, 3), correction=0), 1, rtol=1e-5)
    assert torch.equal(image_batch(dataset, 30, 16, 5), x)
    assert not torch.equal(image_batch(dataset, 30, 16, 6), x)
    # No image comes twice.
    assert len({tuple(row) for row in x.flatten(1).tolist()}) == 30


@pytest.mark.parametrize("pixels", [16, 8])
def test_labels_are_those_of_the_images(dataset: Dataset, pixels: int) -> None:
    x, labels = labelled_batch(dataset, 12, pixels, 5)
    assert torch.equal(x, image_batch(dataset, 12, pixels, 5))
    order = torch.randperm(30, generator=generator(5))[:12]
    assert torch.equal(labels, dataset.train.labels[order])
    fewer = labelled_batch(dataset, 4, pixels, 5)
    assert torch.equal(fewer[0], x[:4])
    assert torch.equal(fewer[1], labels[:4])


@pytest.mark.parametrize("pixels", [8, 11, 32])
def test_images_are_resized_as_pillow_does(dataset: Dataset, pixels: int) -> None:
    original, resized = image_batch(dataset, 4, 16, 1), image_batch(dataset, 4, pixels, 1)
    assert tuple(resized.shape) == (4, 2, pixels, pixels)
    expected = [
        [np.asarray(Image.fromarray(c).resize((pixels, pixels), Image.Resampling.BILINEAR)) for c in image]
        for image in original.contiguous().numpy()
    ]
    np.testing.assert_allclose(resized.numpy(), np.array(expected), atol=1e-4)


def test_too_few_images_of_a_data_set(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="a batch of 31 is more than the 30 train images: make it smaller"):
        image_batch(dataset, 31, 16, 0)


def test_files_of_any_mode_below_a_folder(tmp_path: Path) -> None:
    # Every picture is of one colour, so that only the mode can change it.
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    Image.new("RGB", (20, 30), (200, 10, 90)).save(tmp_path / "rgb.png")
    Image.new("L", (30, 20), 77).save(tmp_path / "deep" / "grey.PNG")
    palette = Image.new("P", (20, 20), 1)
    palette.putpalette([0, 0, 0, 12, 130, 250])
    palette.save(tmp_path / "deep" / "deeper" / "palette.png")
    Image.new("RGBA", (20, 20), (5, 6, 7, 255)).save(tmp_path / "alpha.webp", lossless=True)
    (tmp_path / "notes.txt").write_text("no image")
    x = folder_batch(tmp_path, 4, 8, 0)
    assert (x.dtype, tuple(x.shape)) == (torch.float32, (4, 3, 8, 8))
    levels = pixels_of(x)
    assert np.ptp(levels, axis=(2, 3)).max() < 1e-3
    colours = sorted(tuple(round(value) for value in image[:, 0, 0]) for image in levels)
    assert colours == [(5, 6, 7), (12, 130, 250), (77, 77, 77), (200, 10, 90)]


@pytest.mark.parametrize("size", [(20, 20), (60, 20), (20, 33)])
def test_files_are_resized_and_their_centre_cut_out(tmp_path: Path, size: tuple[int, int]) -> None:
    image = picture(*size)
    image.save(tmp_path / "a.png")
    # The square that fits in the middle, at 10 pixels: Pillow's own resize of that box.
    left, top = ((length - 20) / 2 for length in size)
    levels = pixels_of(folder_batch(tmp_path, 1, 10, 0))[0]
    expected = np.asarray(image.resize((10, 10), Image.Resampling.BICUBIC, box=(left, top, left + 20, top + 20)))
    difference = np.abs(levels - expected.transpose(2, 0, 1))
    if size == (20, 20):
        assert difference.max() < 1e-3
    elif size == (60, 20):  # 30 by 10, of which the 10 in the middle are whole pixels
        assert difference[:, :, 2:-2].max() <= 1.5
    else:  # 16 by 10: off by rounding of the height to whole pixels
        assert difference.mean() < 25


def test_the_seed_chooses_the_files(tmp_path: Path) -> None:
    for number in range(12):
        Image.new("L", (9, 9), 20 * number).save(tmp_path / f"{number:02}.png")

    def chosen(seed: int, batch: int = 5) -> list[int]:
        return [round(image[0, 0, 0] / 20) for image in pixels_of(folder_batch(tmp_path, batch, 4, seed))]

    assert chosen(0) == chosen(0)
    assert chosen(0) == torch.randperm(12, generator=generator(0))[:5].tolist()
    assert len({tuple(chosen(seed)) for seed in range(5)}) == 5
    assert sorted(chosen(3, 12)) == list(range(12))


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_files(tmp_path: Path, count: int) -> None:
    for number in range(count):
        picture(seed=number).save(tmp_path / f"{number}.png")
    (tmp_path / "more.txt").touch()
    with pytest.raises(InputError, match=f"{count} image files below it, 3 wanted") as caught:
        folder_batch(tmp_path, 3, 8, 0)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no image at all", None], ids=["empty", "text", "truncated"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "deep" / "a.png"
    path.parent.mkdir()
    picture().save(path)
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    with pytest.raises(InputError) as caught:
        folder_batch(tmp_path, 1, 8, 0)
    assert str(caught.value).startswith(f"{path}: not a readable image")
    assert "\n" not in str(caught.value)


def test_a_png_with_a_broken_chunk_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture(200, 200).save(path)
    content = path.read_bytes()
    second = content.index(b"IDAT", content.index(b"IDAT") + 4)
    path.write_bytes(content[:second] + b"\x00\x01\x02\x03" + content[second + 4 :])
    with pytest.raises(InputError, match=r"a\.png: not a readable image"):
        folder_batch(tmp_path, 1, 8, 0)


def test_sixteen_bits_a_channel_are_refused_or_right(tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 9), 128 * 257, np.uint16)).save(tmp_path / "a.png")
    try:
        levels = pixels_of(folder_batch(tmp_path, 1, 8, 0))
    except InputError:
        return  # as evaluate does with the same file
    np.testing.assert_allclose(levels, 128, atol=1)


def test_a_folder_named_like_an_image_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "photos.png").mkdir()
    picture().save(tmp_path / "photos.png" / "a.png")
    for seed in range(4):
        assert len(folder_batch(tmp_path, 1, 8, seed)) == 1
    with pytest.raises(InputError, match="1 image files below it, 2 wanted"):
        folder_batch(tmp_path, 2, 8, 0)
