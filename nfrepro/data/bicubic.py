"""Bicubic interpolation like TensorFlow's `tf.image.resize`, which the authors use: neither antialiased nor clamped.

It uses Keys' kernel with a = -1/2 and half-pixel centres; weights beyond the edges are dropped and the rest rescaled.
(TensorFlow rounds the kernel's argument to 1/1024; this does not.) No torch.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]


def resize_bicubic(image: NDArray[np.uint8], pixels: int) -> Pixels:
    """Resizes uint8 [H, W, 3] to float32 [3, pixels, pixels]."""
    by_row = _weighted(image, *taps(image.shape[0], pixels))
    by_both = _weighted(by_row.transpose(1, 0, 2), *taps(image.shape[1], pixels))
    return np.ascontiguousarray(by_both.transpose(2, 1, 0))


@lru_cache(maxsize=1024)
def taps(length: int, pixels: int) -> tuple[NDArray[np.int64], Pixels]:
    """Indices and weights of the four pixels along `length` nearest to each of `pixels` positions: [4, pixels] each."""
    centres = (np.arange(pixels) + 0.5) * (length / pixels) - 0.5
    places = np.floor(centres).astype(np.int64) + np.arange(-1, 3)[:, None]
    weights = _keys(np.abs(centres - places)) * ((places >= 0) & (places < length))
    weights /= weights.sum(0)
    return places.clip(0, length - 1), weights.astype(np.float32)


def _weighted(lines: NDArray[np.uint8] | Pixels, places: NDArray[np.int64], weights: Pixels) -> Pixels:
    """Weighted sums of four lines each: [H, W, 3] to [pixels, W, 3]."""
    total: Pixels = lines[places[0]] * weights[0, :, None, None]
    for place, weight in zip(places[1:], weights[1:], strict=True):
        total += lines[place] * weight[:, None, None]
    return total


def _keys(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic kernel with a = -1/2."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
