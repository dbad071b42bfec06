"""RandAugment: torchvision's table and torchvision's changes, drawn from streams of our own."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from nfrepro.data.randaugment import CHANGES, TABLE, apply_change, change_batch, draw_changes

THEIRS = v2.RandAugment()


def pictures(count: int, channels: int = 3, pixels: int = 32) -> Tensor:
    """Smooth, so that a change is seen."""
    cells = torch.rand(count, channels, 5, 5, generator=torch.Generator().manual_seed(0)) * 255
    return torch.nn.functional.interpolate(cells, (pixels, pixels), mode="bicubic").clamp(0, 255).to(torch.uint8)


def theirs(image: Tensor | Image.Image, name: str, magnitude: float) -> Tensor | Image.Image:
    return THEIRS._apply_image_or_video_transform(image, name, magnitude, InterpolationMode.NEAREST, {})


@pytest.mark.parametrize("pixels", [28, 32, 224])
def test_the_table_is_torchvisions(pixels: int) -> None:
    assert list(CHANGES) == list(THEIRS._AUGMENTATION_SPACE)
    for name, (magnitudes, signed) in THEIRS._AUGMENTATION_SPACE.items():
        table = magnitudes(31, pixels, pixels)
        assert CHANGES[name].signed == signed
        if table is None:
            continue
        for number, expected in enumerate(table.tolist()):
            found = CHANGES[name].magnitude(number, pixels)
            if name.startswith("Translate"):
                assert int(found) == int(expected)
            assert (round(found) if name == "Posterize" else found) == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("number", [0, 10, 30])
@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_torchvisions(name: str, number: int) -> None:
    magnitudes, signed = THEIRS._AUGMENTATION_SPACE[name]
    table = magnitudes(31, 32, 32)
    expected = 0.0 if table is None else float(table[number])
    for channels in (1, 3):
        images = pictures(3, channels)
        picture = v2.functional.to_pil_image(images[0])
        for negative in (0, 1) if signed else (0,):
            code = 2 * list(CHANGES).index(name) + negative
            magnitude = -expected if negative else expected
            changed = apply_change(images, code, number)
            assert changed.dtype == torch.uint8
            for one, image in zip(changed, images, strict=True):
                assert torch.equal(one, theirs(image, name, magnitude))
            ours = np.asarray(apply_change(picture, code, number))
            assert np.array_equal(ours, np.asarray(theirs(picture, name, magnitude)))


def test_strong_changes_change_something() -> None:
    images = pictures(1)
    for place, name in enumerate(CHANGES):
        changed = apply_change(images, 2 * place, 30)
        assert torch.equal(changed, images) == (name == "Identity"), name


def test_a_batch_is_changed_image_by_image() -> None:
    for channels in (1, 3):
        images = pictures(40, channels)
        before = images.clone()
        codes = draw_changes(np.random.default_rng(0).random((40, 2, 2)))
        changed = change_batch(images, codes, 17)
        assert torch.equal(images, before)
        for image, row, found in zip(images, codes, changed, strict=True):
            for code in row.tolist():
                image = apply_change(image, code, 17)
            assert torch.equal(image, found)


@pytest.mark.parametrize("pixels", [28, 33])
def test_a_batch_is_moved_as_images_are(pixels: int) -> None:
    images = pictures(2, pixels=pixels)
    for code in (2 * place + sign for place, change in enumerate(TABLE) if change.moves for sign in (0, 1)):
        for number in (1, 15, 30):
            changed = change_batch(images, np.full((2, 1), code), number)
            assert torch.equal(changed, apply_change(images, code, number))


def test_draws_are_uniform_over_the_table_and_half_are_negative() -> None:
    codes = draw_changes(np.random.default_rng(0).random((28_000, 1, 2)))
    counts = np.bincount(codes.ravel() // 2, minlength=14)
    assert (np.abs(counts - 2000) < 250).all()
    for place, change in enumerate(TABLE):
        negative = (codes == 2 * place + 1).sum() / counts[place]
        assert 0.45 < negative < 0.55 if change.signed else negative == 0


def test_colour_leaves_grey_images_and_the_generator_is_left_alone() -> None:
    images = pictures(2, channels=1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert torch.equal(apply_change(images, 2 * list(CHANGES).index("Color"), 30), images)
    change_batch(images, np.full((2, 3), 10), 5)
    assert torch.equal(torch.get_rng_state(), state)
