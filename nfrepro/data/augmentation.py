"""Augmentation: the random draws of an epoch, and their application to images held in memory."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nfrepro.data import draws, inception_crop, randaugment
from nfrepro.data.options import AugmentationOptions
from nfrepro.seeding import stream_seed


@dataclass(frozen=True, eq=False)
class Augmentation:
    """The random draws for some rows (see `draws`).

    `flips`: bool [N]; `corners`: int64 [N, 2], top and left corner of the padded crop in the padded image, in pixels;
    `crops`: float64 [N, inception_crop.NUMBERS], None without the Inception crop; `changes`: int64 [N, layers], codes
    of RandAugment.
    """

    flips: NDArray[np.bool_]
    corners: NDArray[np.int64]
    crops: NDArray[np.float64] | None
    changes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Epoch:
    """All rows of one epoch, or N consecutive ones from `first` on; rows are numbered through the epoch.

    `images`: int64 [N], the index of the image in each row; `flips`, `corners`: see `Augmentation`.
    """

    options: AugmentationOptions
    seed: int
    epoch: int
    images: NDArray[np.int64]
    flips: NDArray[np.bool_]
    corners: NDArray[np.int64]
    first: int = 0

    def part(self, rows: range) -> "Epoch":
        """The part of the epoch that consists of `rows`."""
        cut = slice(rows.start - self.first, rows.stop - self.first)
        images, flips, corners = self.images[cut], self.flips[cut], self.corners[cut]
        return replace(self, first=rows.start, images=images, flips=flips, corners=corners)

    def augmentation(self, rows: range) -> Augmentation:
        part, layers = slice(rows.start - self.first, rows.stop - self.first), self.options.randaugment_layers
        inception = self.options.crop == "inception"
        numbers = self.uniform("randaugment", rows, layers * randaugment.NUMBERS)
        return Augmentation(
            flips=self.flips[part],
            corners=self.corners[part],
            crops=self.uniform("inception-crop", rows, inception_crop.NUMBERS) if inception else None,
            changes=randaugment.draw_changes(numbers.reshape(len(rows), layers, randaugment.NUMBERS)),
        )

    def uniform(self, stream: str, rows: range, count: int) -> NDArray[np.float64]:
        return draws.uniform(stream, self.seed, self.epoch, self.options.copies, rows, count)


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The order in which an epoch visits `count` images: int64 [count], on the CPU."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(stream_seed("order", seed, epoch)))


def draw_epoch(count: int, options: AugmentationOptions, seed: int, epoch: int) -> Epoch:
    """Draws the order, flips and padded crops of an epoch of `count` images."""
    positions = -(-count // options.copies)
    drawn = [_flips_and_corners(count, options, seed, epoch, copy) for copy in range(options.copies)]
    flips, corners = (np.stack([one[:positions] for one in every], 1) for every in zip(*drawn, strict=True))
    return Epoch(
        options,
        seed,
        epoch,
        images=epoch_order(count, seed, epoch)[:positions].repeat_interleave(options.copies).numpy(),
        flips=flips.reshape(-1),
        corners=corners.reshape(-1, 2),
    )


def _flips_and_corners(
    count: int, options: AugmentationOptions, seed: int, epoch: int, copy: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    # The first copy uses the same stream as images without copies.
    numbers = (seed, epoch, copy) if copy else (seed, epoch)
    generator = torch.Generator().manual_seed(stream_seed("augmentation", *numbers))
    # Both are drawn whatever the options: turning one off leaves the other as it was.
    flips = torch.randint(2, (count,), generator=generator).bool()
    corners = torch.randint(2 * options.crop_padding + 1, (count, 2), generator=generator)
    return (flips & options.flip).numpy(), corners.numpy()


def augment(images: Tensor, drawn: Augmentation, options: AugmentationOptions) -> Tensor:
    """Crops, flips and changes a batch on its device: uint8 [B, C, P, P] in and out."""
    if drawn.crops is None:
        cropped = _padded_crops(images, drawn.corners, options.crop_padding)
    else:
        height, width = images.shape[-2:]
        cropped = inception_crop.resized_crops(images, inception_crop.crop_boxes(height, width, drawn.crops))
    flips = _to_device(drawn.flips, images.device)[:, None, None, None]
    flipped = torch.where(flips, cropped.flip(-1), cropped)
    if not options.randaugment_layers:
        return flipped
    return randaugment.change_batch(flipped, drawn.changes, options.randaugment_magnitude)


def _padded_crops(images: Tensor, corners: NDArray[np.int64], padding: int) -> Tensor:
    height, width = images.shape[-2:]
    padded = functional.pad(images, [padding] * 4)
    # A view [B, C, top, left, H, W] of all possible crops; only the chosen ones are copied.
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)
    top, left = _to_device(corners, images.device).unbind(1)
    return crops[torch.arange(len(images), device=images.device), :, top, left]


def _to_device(values: NDArray[np.bool_] | NDArray[np.int64], device: torch.device) -> Tensor:
    # Does not wait for the device; data in pageable memory is copied before this returns.
    return torch.from_numpy(values).to(device, non_blocking=True)
