"""Labelled test images of any size, read from files while a network is evaluated: cropped, resized, normalised."""

import math
import os
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nfrepro.data.bicubic import Pixels, resize_bicubic
from nfrepro.data.image_reader import read_rgb
from nfrepro.data.image_tree import list_split, refuse_link_out, require_two_classes
from nfrepro.errors import InputError

# Statistics of ImageNet's training images, for values in 0..1 (code: dataset.py).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Folders that may lie between the folder of a data set and its class folders.
SPLITS = ("test", "val")
# Batches decoded ahead of the network: bounds the memory.
BATCHES_AHEAD = 2
# Largest ratio of longer to shorter side at which an image is resized as a whole.
MAX_ASPECT = 16


@dataclass(frozen=True)
class TestImages:
    """Image files with the index of their class; `left_out`: other entries of the folders.

    Classes are sorted by name (ImageNet: the order of its synsets), or by number if they are named 0, 1, … N - 1.
    """

    __test__ = False  # pytest: not a test

    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)


class Crop(Protocol):
    """Cuts out and resizes the centre of an RGB image: float32 [3, pixels, pixels], values of 0..255."""

    def __call__(self, image: Image.Image, pixels: int) -> Pixels: ...


@dataclass(frozen=True)
class PaddedCrop:
    """The authors' test crop (code: dataset.py, `crop_resize`): cut out the centre, leaving a margin, then resize.

    The margin is `padding` pixels of the resized image in total. The resize is TensorFlow's: bicubic, neither
    antialiased nor clamped to 0..255.
    """

    padding: int = 32

    def __call__(self, image: Image.Image, pixels: int) -> Pixels:
        left, top, side = central_square(image.width, image.height, pixels, self.padding)
        return resize_bicubic(np.asarray(image.crop((left, top, left + side, top + side))), pixels)

    def __str__(self) -> str:
        return f"central crop, padding {self.padding} px, bicubic (the authors')"


@dataclass(frozen=True)
class FractionCrop:
    """The test crop of timm and torchvision: shorter side to pixels / `fraction`, antialiased; cut out the centre."""

    fraction: float

    def __call__(self, image: Image.Image, pixels: int) -> Pixels:
        short, long = min(image.size), max(image.size)
        resized_short = math.floor(pixels / self.fraction)
        lengths = {short: resized_short, long: int(resized_short * long / short)}
        width, height = (lengths[length] for length in image.size)
        left, top = (round((length - pixels) / 2) for length in (width, height))
        if long <= MAX_ASPECT * short:
            resized = image.resize((width, height), Image.Resampling.BICUBIC)
            centre = resized.crop((left, top, left + pixels, top + pixels))
        else:  # resizes only the part cut out: equal up to rounding, without a huge intermediate image
            x, y = image.width / width, image.height / height
            box = (left * x, top * y, (left + pixels) * x, (top + pixels) * y)
            centre = image.resize((pixels, pixels), Image.Resampling.BICUBIC, box=box)
        return np.asarray(centre, np.float32).transpose(2, 0, 1)

    def __str__(self) -> str:
        return f"central crop, fraction {self.fraction:g}, bicubic, antialiased (timm's)"


def list_test_images(folder: Path) -> TestImages:
    """Lists the images in `folder`/<class>/, `folder`/test/<class>/ or `folder`/val/<class>/; opens none.

    Raises InputError if there are none, if both splits exist, or if a link leads out of `folder`.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: images go into {folder}/<class>/")
    splits = [name for name in SPLITS if (folder / name).is_dir()]
    if len(splits) > 1:
        raise InputError(f"{folder}: both {' and '.join(splits)} exist: name one, for example {folder / splits[0]}")
    if splits:
        refuse_link_out(folder / splits[0], folder)
    listed = list_split(folder / splits[0] if splits else folder, folder)
    files = listed.files
    require_two_classes(folder / splits[0] if splits else folder, files)
    labels = [label for label, paths in enumerate(files.values()) for _ in paths]
    return TestImages(
        tuple(files), tuple(path for paths in files.values() for path in paths), tuple(labels), listed.left_out
    )


def read_batches(images: TestImages, pixels: int, crop: Crop, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields all `images` in order: float32 [B, 3, pixels, pixels], normalised, and labels int64 [B], on the CPU.

    Decodes `BATCHES_AHEAD` batches ahead in threads. Raises InputError, naming the file, if an image cannot be read.
    """
    # Warnings about suspicious but readable files. Set for good: a temporary filter is not thread-safe.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    ahead: deque[tuple[Sequence[Future[Pixels]], Sequence[int]]] = deque()
    try:
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            read = [pool.submit(read_image, path, pixels, crop) for path in images.paths[part]]
            ahead.append((read, images.labels[part]))
            if len(ahead) > BATCHES_AHEAD:
                yield _stack(*ahead.popleft())
        while ahead:
            yield _stack(*ahead.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def read_image(path: Path, pixels: int, crop: Crop) -> Pixels:
    """One image as the network sees it: float32 [3, pixels, pixels], with mean about 0 and standard deviation about 1.

    Raises InputError for files that `read_rgb` rejects.
    """
    cut = crop(read_rgb(path), pixels)
    mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    normalised: Pixels = (cut / np.float32(255) - mean) / std
    return normalised


def central_square(width: int, height: int, pixels: int, padding: int) -> tuple[int, int, int]:
    """Left, top and side of the square that the authors cut out, in pixels of the image (float32, like their code)."""
    share = np.float32(min(width, height)) / np.float32(pixels + padding)
    side = max(1, int(share * np.float32(pixels)))
    return (width - side + 1) // 2, (height - side + 1) // 2, side


def _stack(read: Sequence[Future[Any]], labels: Sequence[int]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(np.stack([future.result() for future in read])), torch.tensor(labels)
