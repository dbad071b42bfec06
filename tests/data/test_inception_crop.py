"""The Inception crop: torchvision's distribution of rectangles, and a bicubic resize of each."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional
from torchvision.transforms import RandomResizedCrop

from nfrepro.data.bicubic import resize_bicubic
from nfrepro.data.inception_crop import NUMBERS, crop_boxes, resized_crops

SCALE, RATIO = [0.08, 1.0], [3 / 4, 4 / 3]


def numbers(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, NUMBERS))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (375, 500), (500, 230)])
def test_rectangles_are_distributed_as_torchvisions(height: int, width: int) -> None:
    boxes = crop_boxes(height, width, numbers(4000))
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = np.array([RandomResizedCrop.get_params(image, SCALE, RATIO) for _ in range(4000)])
    for quantity in (
        lambda box: box[:, 2] * box[:, 3],
        lambda box: box[:, 3] / box[:, 2],
        lambda box: box[:, 0],
        lambda box: box[:, 1],
        lambda box: box[:, 0] / np.maximum(height - box[:, 2], 1),
    ):
        assert stats.ks_2samp(quantity(boxes), quantity(theirs)).pvalue > 1e-3


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (28, 28), (375, 500), (40, 4000), (4000, 40)])
def test_rectangles_lie_within_the_image_and_its_shares(height: int, width: int) -> None:
    top, left, box_height, box_width = crop_boxes(height, width, numbers(2000)).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (box_height >= 1).all()
    assert (box_width >= 1).all()
    assert (top + box_height <= height).all()
    assert (left + box_width <= width).all()
    # Sides are whole pixels: half a pixel either way.
    assert ((box_height + 0.5) * (box_width + 0.5) >= 0.08 * height * width).all() or max(height, width) == 4000
    assert ((box_width + 0.5) / np.maximum(box_height - 0.5, 0.1) >= 3 / 4).all()
    assert ((box_height + 0.5) / np.maximum(box_width - 0.5, 0.1) >= 3 / 4).all()


def test_where_every_attempt_fails_the_centre_is_taken_as_torchvision_does() -> None:
    for height, width in ((40, 4000), (4000, 40)):
        drawn = numbers(50)
        drawn[:, :10] = 0.9  # an area that cannot fit
        expected = RandomResizedCrop.get_params(torch.empty(3, height, width), [0.9, 0.9], RATIO)
        assert (crop_boxes(height, width, drawn) == expected).all()


def test_resizing_in_a_batch_equals_resizing_one_by_one() -> None:
    images = torch.randint(0, 256, (40, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    boxes = crop_boxes(24, 24, numbers(40))
    crops = resized_crops(images, boxes)
    for image, crop, (top, left, height, width) in zip(images, crops, boxes, strict=True):
        part = image[:, top : top + height, left : left + width]
        # torch's antialiased bicubic is Keys' with a = -1/2; where an image grows nothing is antialiased.
        exact = functional.interpolate(part[None].double(), (24, 24), mode="bicubic", antialias=True)[0]
        assert (crop - exact.clamp(0, 255)).abs().max() < 0.501
        alone = resize_bicubic(part.permute(1, 2, 0).numpy(), 24).round().clip(0, 255)
        assert np.array_equal(crop.numpy(), alone)


def test_the_whole_image_is_itself() -> None:
    images = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    assert torch.equal(resized_crops(images, np.array([[0, 0, 28, 28]] * 2)), images)
