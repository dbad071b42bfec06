"""RandAugment (arXiv 1909.13719): changes of equal strength drawn from a table; both are torchvision's."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms.v2 import functional

# The strongest magnitude has this number, the weakest 0.
LAST_BIN = 30
# Random numbers per change: which one, and its sign.
NUMBERS = 2

Picture = TypeVar("Picture", Tensor, Image.Image)


@dataclass(frozen=True)
class Change:
    """One change. `strongest`: magnitude of the last bin for an image side in pixels. `signed`: half are negated."""

    apply: Callable[[Picture, float], Picture]
    strongest: Callable[[int], float] = lambda side: 0.0
    weakest: float = 0.0
    signed: bool = False
    moves: bool = False  # whether it moves pixels, whatever their values

    def magnitude(self, number: int, side: int) -> float:
        # In float32, like torchvision: a threshold on a whole grey level is sensitive to the last digit.
        return torch.linspace(self.weakest, self.strongest(side), LAST_BIN + 1)[number].item()


def _moved(image: Picture, x: int = 0, y: int = 0, shear_x: float = 0.0, shear_y: float = 0.0) -> Picture:
    """Shifts by whole pixels and shears by slopes about the upper left corner; uncovered pixels are black."""
    shear = [math.degrees(math.atan(slope)) for slope in (shear_x, shear_y)]
    centre = [0, 0] if any(shear) else None
    moved: Picture = functional.affine(image, angle=0.0, translate=[x, y], scale=1.0, shear=shear, center=centre)
    return moved


def _shift_range(side: int) -> float:
    return 150 / 331 * side


CHANGES = {
    "Identity": Change(lambda image, size: image),
    "ShearX": Change(lambda image, size: _moved(image, shear_x=size), lambda side: 0.3, signed=True, moves=True),
    "ShearY": Change(lambda image, size: _moved(image, shear_y=size), lambda side: 0.3, signed=True, moves=True),
    "TranslateX": Change(lambda image, size: _moved(image, x=int(size)), _shift_range, signed=True, moves=True),
    "TranslateY": Change(lambda image, size: _moved(image, y=int(size)), _shift_range, signed=True, moves=True),
    "Rotate": Change(lambda image, size: functional.rotate(image, size), lambda side: 30.0, signed=True, moves=True),
    "Brightness": Change(
        lambda image, size: functional.adjust_brightness(image, 1 + size), lambda side: 0.9, signed=True
    ),
    "Color": Change(lambda image, size: functional.adjust_saturation(image, 1 + size), lambda side: 0.9, signed=True),
    "Contrast": Change(lambda image, size: functional.adjust_contrast(image, 1 + size), lambda side: 0.9, signed=True),
    "Sharpness": Change(
        lambda image, size: functional.adjust_sharpness(image, 1 + size), lambda side: 0.9, signed=True
    ),
    "Posterize": Change(lambda image, size: functional.posterize(image, round(size)), lambda side: 4.0, weakest=8.0),
    "Solarize": Change(lambda image, size: functional.solarize(image, 255 * size), lambda side: 0.0, weakest=1.0),
    "AutoContrast": Change(lambda image, size: functional.autocontrast(image)),
    "Equalize": Change(lambda image, size: functional.equalize(image)),
}
TABLE = tuple(CHANGES.values())


def draw_changes(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Codes of changes, [..., layers], from uniform numbers [..., layers, NUMBERS].

    A code is twice the index in the table, plus 1 if the magnitude is negated.
    """
    place = np.floor(numbers[..., 0] * len(TABLE)).astype(np.int64)
    signed = np.array([change.signed for change in TABLE])[place]
    return 2 * place + (signed & (numbers[..., 1] < 0.5))


def apply_change(image: Picture, code: int, number: int) -> Picture:
    """Applies one change at the strength of bin `number` to a square uint8 image or to a whole batch [B, C, H, W]."""
    change = TABLE[code // 2]
    size = change.magnitude(number, functional.get_size(image)[0])
    return change.apply(image, -size if code % 2 else size)


def change_batch(images: Tensor, codes: NDArray[np.int64], number: int) -> Tensor:
    """A copy of `images`, uint8 [B, 1 or 3, H, W], each changed as its row of `codes` [B, layers] says.

    Images with the same change are processed together. `Color` is the identity on grey images. Pixels are moved with a
    lookup table: torchvision makes a matrix on the host for each change, and so waits for a GPU.
    """
    images, side, device = images.clone(), images.shape[-1], images.device
    for layer in codes.T:
        for code in np.unique(layer):
            chosen = torch.from_numpy(np.flatnonzero(layer == code)).to(device, non_blocking=True)
            if TABLE[code // 2].moves:
                pixels = pad(images[chosen].flatten(2), (1, 0))
                images[chosen] = pixels[:, :, _sources(int(code), number, side, device)].view(-1, *images.shape[1:])
            else:
                images[chosen] = apply_change(images[chosen], int(code), number)
    return images


@cache
def _sources(code: int, number: int, side: int, device: torch.device) -> Tensor:
    """The source of each pixel under a change that moves pixels, int64 [side^2]: its number from 1; 0 is black."""
    numbers = torch.arange(1.0, side**2 + 1.0).view(1, 1, side, side)
    return apply_change(numbers, code, number).flatten().long().to(device)
