"""The Inception crop: a random rectangle of an image, resized to a square."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nfrepro.data.bicubic import taps

# Share of the image's area, and width over height (authors' dataset.py).
AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)
# Rectangles tried until one lies within the image.
ATTEMPTS = 10
# Random numbers per image: area and aspect of each attempt, top and left.
NUMBERS = 2 * ATTEMPTS + 2


def crop_boxes(height: int, width: int, numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Top, left, height and width of a random rectangle in each of N images of that size: [N, 4].

    `numbers`: [N, NUMBERS], uniform in [0, 1). Like torchvision's RandomResizedCrop: if all attempts fail, the largest
    central rectangle of an allowed aspect. (The authors then take the centre as for a test image.)
    """
    area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * numbers[:, :ATTEMPTS])
    low, high = np.log(ASPECT)
    aspect = np.exp(low + (high - low) * numbers[:, ATTEMPTS : 2 * ATTEMPTS])
    widths, heights = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first, every = fits.argmax(1), np.arange(len(numbers))
    boxes = np.stack([heights[every, first], widths[every, first]], 1)
    corners = np.floor(numbers[:, -2:] * ([height, width] - boxes + 1))
    central = _central_box(height, width)
    return np.where(fits.any(1)[:, None], np.concatenate([corners, boxes], 1), central).astype(np.int64)


def _central_box(height: int, width: int) -> tuple[int, int, int, int]:
    box_height = min(height, round(width / ASPECT[0]))
    box_width = min(width, round(height * ASPECT[1]))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def resized_crops(images: Tensor, boxes: NDArray[np.int64]) -> Tensor:
    """Resizes a rectangle of each image to the image's size: uint8 [B, C, P, P] in and out.

    Bicubic, each rectangle by itself, rounded to whole levels. Multiplications and additions are separate operations,
    so that every device gives the same bits, whatever else is in the batch.
    """
    top, left, heights, widths = torch.from_numpy(boxes).to(images.device, non_blocking=True).unbind(1)
    places, weights = _tap_table(images.shape[-1], images.device)
    rows = (places[heights] + top[:, None, None])[:, None, :, None]
    by_row = _weighted(images, 2, rows, weights[heights][:, None, :, None])
    columns = (places[widths] + left[:, None, None])[:, None, None]
    by_both = _weighted(by_row, 3, columns, weights[widths][:, None, None])
    return by_both.round_().clamp_(0, 255).to(torch.uint8)


def _weighted(values: Tensor, dimension: int, places: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over four taps, the last dimension of `places` and `weights`, along a dimension of [B, C, H, W]."""
    size = list(values.shape)
    size[dimension] = -1
    parts = [
        values.gather(dimension, places[..., tap].expand(size)) * weights[..., tap] for tap in range(places.shape[-1])
    ]
    return parts[0].add_(parts[1]).add_(parts[2]).add_(parts[3])


@lru_cache(maxsize=4)
def _tap_table(pixels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices and weights that resize every length up to `pixels` to `pixels`: [pixels + 1, pixels, 4]."""
    found = [taps(max(length, 1), pixels) for length in range(pixels + 1)]
    places = torch.from_numpy(np.stack([places.T for places, _ in found]))
    weights = torch.from_numpy(np.stack([weights.T for _, weights in found]))
    return places.to(device), weights.to(device)
