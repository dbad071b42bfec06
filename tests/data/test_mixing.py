"""MixUp and CutMix against a slow reference in NumPy."""

import numpy as np
import pytest
import torch
from scipy import stats

from nfrepro.data.mixing import NUMBERS, cutmix_boxes, draw_mix, mix, soft_targets
from nfrepro.data.options import SyntheticOptions

CLASSES = 5


def numbers(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, NUMBERS))


def batch(count: int, pixels: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, pixels, pixels, generator=generator).to(memory_format=torch.channels_last)
    return images, torch.randint(CLASSES, (count,), generator=generator)


def slow_partner(row: int, copies: int) -> int:
    image, copy = divmod(row, copies)
    return (image + 1 if image % 2 == 0 else image - 1) * copies + copy


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("mixing", ["mixup", "cutmix", "mixup_cutmix"])
def test_equals_a_slow_reference(mixing: str, copies: int) -> None:
    count = 8 * copies
    options = SyntheticOptions(mixing=mixing, copies=copies)
    images, labels = batch(count)
    how = draw_mix(options, count, range(count), 7, numbers(count))
    mixed, targets = mix(images, soft_targets(labels, CLASSES), how, copies)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    for row in range(count):
        partner = slow_partner(row, copies)
        by_mixup = mixing == "mixup" or (mixing == "mixup_cutmix" and row < count / 2)
        own = np.float64(how.weights[row]) if by_mixup else 1.0
        expected = images[row].double().numpy() * own + images[partner].double().numpy() * (1 - own)
        if not by_mixup:
            top, bottom, left, right = how.boxes[row]
            expected[:, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
            covered = (expected != images[row].double().numpy()).any(0).sum()
            assert covered == (bottom - top) * (right - left)
            own = 1 - covered / 49
        np.testing.assert_allclose(mixed[row].numpy(), expected, rtol=1e-5, atol=1e-6)
        target = np.zeros(CLASSES)
        target[labels[row]] += own
        target[labels[partner]] += 1 - own
        np.testing.assert_allclose(targets[row].numpy(), target, atol=1e-6)
    assert targets.dtype == torch.float32
    np.testing.assert_allclose(targets.sum(1).numpy(), 1, atol=1e-6)


def test_half_is_the_first_half_by_position_also_in_a_part() -> None:
    options = SyntheticOptions(mixing="mixup_cutmix")
    drawn = numbers(16)
    whole = draw_mix(options, 16, range(16), 9, drawn)
    part = draw_mix(options, 16, range(6, 10), 9, drawn[6:10])
    assert np.array_equal(part.weights, whole.weights[6:10])
    assert np.array_equal(part.boxes, whole.boxes[6:10])
    assert (whole.weights[:8] < 1).all()
    assert (whole.weights[8:] == 1).all()
    assert (whole.boxes[:8] == 0).all()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_weights_are_beta_distributed(alpha: float) -> None:
    options = SyntheticOptions(mixing="mixup", mixup_alpha=alpha)
    weights = draw_mix(options, 4000, range(4000), 9, numbers(4000)).weights
    assert stats.kstest(weights, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def slow_box(pixels: int, proportion: float, row: float, column: float) -> tuple[int, int, int, int]:
    """The authors' `cutmix_padding`, number by number."""
    side = int(np.sqrt(1 - proportion) * pixels)
    y, x = int(row * pixels), int(column * pixels)
    top, left = max(y - side // 2, 0), max(x - side // 2, 0)
    return top, min(y + side // 2, pixels), left, min(x + side // 2, pixels)


@pytest.mark.parametrize("pixels", [1, 8, 33, 224])
def test_boxes_are_the_authors(pixels: int) -> None:
    drawn = numbers(500)
    assert cutmix_boxes(pixels, drawn).tolist() == [list(slow_box(pixels, *row)) for row in drawn.tolist()]
    top, bottom, left, right = cutmix_boxes(pixels, drawn).T
    assert ((top >= 0) & (top <= bottom) & (bottom <= pixels)).all()
    assert ((left >= 0) & (left <= right) & (right <= pixels)).all()


def test_the_area_is_uniform_before_it_is_cut_off() -> None:
    drawn = numbers(4000)
    drawn[:, 1:] = 0.5
    top, bottom, left, right = cutmix_boxes(1000, drawn).T
    assert stats.kstest((bottom - top) * (right - left) / 1000**2, "uniform").pvalue > 1e-3
