"""One batch of images for measuring signal propagation: Gaussian noise or real images."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from nfrepro.data.batches import Normalisation
from nfrepro.data.evaluation_images import FractionCrop, read_image
from nfrepro.data.image_files import ImageFiles
from nfrepro.data.image_reader import is_image_name
from nfrepro.data.sources import Dataset
from nfrepro.errors import InputError
from nfrepro.seeding import stream_seed


def gaussian_batch(batch: int, channels: int, pixels: int, seed: int) -> Tensor:
    """Independent N(0, 1) pixels, float32 [batch, channels, pixels, pixels]: the input of figures 1 and 2."""
    generator = torch.Generator().manual_seed(stream_seed("probe", seed))
    return torch.randn(batch, channels, pixels, pixels, generator=generator)


def image_batch(dataset: Dataset, batch: int, pixels: int, seed: int) -> Tensor:
    """`batch` training images chosen by `seed`, normalised, resized (bilinear) to `pixels`; float32 [B, C, H, W].

    For images read from files, the central square, resized (bicubic).

    Raises InputError if there are fewer.
    """
    return labelled_batch(dataset, batch, pixels, seed)[0]


def labelled_batch(dataset: Dataset, batch: int, pixels: int, seed: int) -> tuple[Tensor, Tensor]:
    """The images of `image_batch` and their labels, int64 [B]. A larger batch begins with those of a smaller one.

    Raises InputError if there are fewer.
    """
    if batch > len(dataset.train):
        raise InputError(f"a batch of {batch:,} is more than the {len(dataset.train):,} train images: make it smaller")
    generator = torch.Generator().manual_seed(stream_seed("probe", seed))
    chosen = torch.randperm(len(dataset.train), generator=generator)[:batch]
    labels = dataset.train.labels[chosen]
    if isinstance(dataset.train, ImageFiles):
        centres = replace(dataset.train, pixels=pixels).centres(chosen.tolist())
        return centres.to(dataset.device), labels
    images = Normalisation.of(dataset, dataset.pixels)(dataset.train.images[chosen].permute(0, 2, 3, 1))
    if pixels != dataset.pixels:
        images = functional.interpolate(images, size=(pixels, pixels), mode="bilinear", antialias=True)
    return images, labels


def folder_batch(folder: Path, batch: int, pixels: int, seed: int) -> Tensor:
    """`batch` image files from anywhere below `folder`, chosen by `seed`; float32 [B, 3, pixels, pixels].

    They are resized, centre-cropped and normalised like ImageNet. Raises InputError if there are fewer or one is bad.
    """
    found = sorted(path for path in folder.rglob("*") if not path.is_dir())
    paths = [path for path in found if is_image_name(path.name)]
    if batch > len(paths):
        others = f"; {len(found) - len(paths):,} other files are left out" if len(found) > len(paths) else ""
        raise InputError(f"{folder}: {len(paths):,} image files below it, {batch:,} wanted{others}")
    generator = torch.Generator().manual_seed(stream_seed("probe", seed))
    chosen = torch.randperm(len(paths), generator=generator)[:batch].tolist()
    return torch.stack([torch.from_numpy(read_image(paths[index], pixels, FractionCrop(1.0))) for index in chosen])
