"""MixUp and CutMix: each image of a batch, and its target, is mixed with its partner's.

The authors' loader makes one image from two fresh ones. Here the two images of a pair are mixed with each other, each
with its own draws, so an epoch keeps its length. The first image of a batch is paired with the second, the third with
the fourth, copy by copy.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional

from nfrepro.data.options import AugmentationOptions

# Random numbers per image: weight or area, and the centre of the box.
NUMBERS = 3


@dataclass(frozen=True, eq=False)
class Mix:
    """How the rows of a part of a batch are mixed; a weight of 1 with an empty box leaves a row unchanged.

    `weights`: float64 [B], of the image itself. `boxes`: int64 [B, 4], top, bottom, left, right of the area that its
    partner covers.
    """

    weights: NDArray[np.float64]
    boxes: NDArray[np.int64]


def pair_rows(copies: int) -> int:
    """The number of consecutive rows, counted from the first of a batch, that contain whole pairs."""
    return 2 * copies


def draw_mix(
    options: AugmentationOptions, batch_size: int, rows: range, pixels: int, numbers: NDArray[np.float64]
) -> Mix:
    """Draws a mix for `rows` of a batch from `numbers` [rows, NUMBERS]: MixUp or CutMix, by option and row."""
    by_mixup = np.array(
        [options.mixing == "mixup" or (options.mixing == "mixup_cutmix" and row < batch_size // 2) for row in rows]
    )
    weights = betaincinv(options.mixup_alpha, options.mixup_alpha, numbers[:, 0])
    boxes = cutmix_boxes(pixels, numbers)
    return Mix(np.where(by_mixup, weights, 1.0), np.where(by_mixup[:, None], 0, boxes))


def cutmix_boxes(pixels: int, numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Top, bottom, left, right of a square with uniformly random area and centre, clipped at the edges: [N, 4].

    This follows the authors (dataset.py, `cutmix_padding`).
    """
    half_side = (np.sqrt(1 - numbers[:, 0]) * pixels).astype(np.int64) // 2
    centres = (numbers[:, 1:] * pixels).astype(np.int64)
    top, left = (centres - half_side[:, None]).clip(0, pixels).T
    bottom, right = (centres + half_side[:, None]).clip(0, pixels).T
    return np.stack([top, bottom, left, right], 1)


def mix(images: Tensor, targets: Tensor, how: Mix, copies: int) -> tuple[Tensor, Tensor]:
    """Mixes partners: images float32 [B, C, H, W] and targets float32 [B, classes]; B is a multiple of `pair_rows`.

    A target gets the weight of its image: that of MixUp, or the share of its pixels that CutMix leaves.
    """
    partner = torch.from_numpy(_partners(len(images), copies)).to(images.device, non_blocking=True)
    top, bottom, left, right = how.boxes.T
    pixels = images.shape[-1]
    area = (bottom - top) * (right - left) / pixels**2
    weights, kept = _float32(how.weights, images.device), _float32(how.weights * (1 - area), images.device)
    weight, other = weights[:, None, None, None], images[partner]
    mixed = torch.where(_inside(how.boxes, pixels, images.device), other, images * weight + other * (1 - weight))
    return mixed, targets * kept[:, None] + targets[partner] * (1 - kept[:, None])


def soft_targets(labels: Tensor, classes: int) -> Tensor:
    """Converts labels int64 [B] to one-hot targets float32 [B, classes]."""
    return functional.one_hot(labels, classes).float()


def _partners(count: int, copies: int) -> NDArray[np.int64]:
    """The index of the partner of each of `count` rows: the same copy of the other image of the pair."""
    rows = np.arange(count).reshape(-1, 2, copies)
    return np.ascontiguousarray(rows[:, ::-1]).reshape(-1)


def _inside(boxes: NDArray[np.int64], pixels: int, device: torch.device) -> Tensor:
    """Masks of the pixels inside the boxes, bool [B, 1, pixels, pixels]."""
    top, bottom, left, right = torch.from_numpy(boxes).to(device, non_blocking=True)[:, :, None].unbind(1)
    places = torch.arange(pixels, device=device)
    rows, columns = (places >= top) & (places < bottom), (places >= left) & (places < right)
    return (rows[:, :, None] & columns[:, None])[:, None]


def _float32(values: NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device, non_blocking=True)
