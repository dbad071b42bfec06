"""Image sets too large for memory, read from their files while a network trains or is tested."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nfrepro.data.augmentation import Augmentation, Epoch, augment
from nfrepro.data.bicubic import resize_bicubic
from nfrepro.data.evaluation_images import FractionCrop, PaddedCrop, read_image
from nfrepro.data.image_reader import read_rgb
from nfrepro.data.inception_crop import crop_boxes
from nfrepro.data.options import AugmentationOptions
from nfrepro.data.randaugment import apply_change
from nfrepro.errors import InputError

# Signals that a scheduler or a terminal sends to all processes of a job, so that the main one may save and stop.
LEFT_TO_THE_MAIN_PROCESS = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
# A worker told to end does so after this time; until then the main process may still be waiting for its images.
SECONDS_TO_END = 20

# Images a worker hands over at a time: bounds the shared memory, and lets all workers read a large batch together.
IMAGES_OF_A_PIECE = 32

TEST_CROP = PaddedCrop()


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files `names`, bytes [N], in `folder`; `labels`: int64 [N], on the batches' `device`; `pixels`: side."""

    folder: Path
    names: NDArray[np.bytes_]
    labels: Tensor
    pixels: int
    channels: int = 3

    def __len__(self) -> int:
        return len(self.names)

    @property
    def device(self) -> torch.device:
        return self.labels.device

    def to(self, device: torch.device | str) -> "ImageFiles":
        return replace(self, labels=self.labels.to(device))

    def train_piece(self, epoch: Epoch, rows: range) -> "TrainPiece":
        part = epoch.part(rows)
        return TrainPiece(self.folder, self.names[part.images], self.pixels, part, rows)

    def test_piece(self, numbers: range) -> "TestPiece":
        return TestPiece(self.folder, self.names[numbers.start : numbers.stop], self.pixels)

    def path(self, number: int) -> Path:
        return self.folder / os.fsdecode(self.names[number])

    def centres(self, numbers: Sequence[int]) -> Tensor:
        """The largest central square of each image, resized, normalised like ImageNet: float32 [B, 3, pixels, pixels].

        Raises InputError, naming the file, if an image cannot be read.
        """
        crop = FractionCrop(1.0)
        return torch.stack([torch.from_numpy(read_image(self.path(number), self.pixels, crop)) for number in numbers])


@dataclass(frozen=True, eq=False)
class Piece:
    """Images that one process reads at a time: `names` in `folder`, returned `pixels` high and wide."""

    folder: Path
    names: NDArray[np.bytes_]
    pixels: int

    @property
    def paths(self) -> list[Path]:
        return [self.folder / os.fsdecode(name) for name in self.names]

    def __call__(self) -> Tensor:
        """Reads the images, [B, 3, pixels, pixels]. Raises InputError, naming the file, if one cannot be read."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class TrainPiece(Piece):
    """Some `rows` of an epoch: uint8, augmented."""

    epoch: Epoch  # cut to `rows`
    rows: range

    def __call__(self) -> Tensor:
        options, drawn = self.epoch.options, self.epoch.augmentation(self.rows)
        if drawn.crops is not None:
            return torch.stack([self._read(read_rgb(path), drawn, row, options) for row, path in enumerate(self.paths)])
        return augment(torch.stack([self._centre(read_rgb(path)) for path in self.paths]), drawn, options)

    def _read(self, image: Image.Image, drawn: Augmentation, row: int, options: AugmentationOptions) -> Tensor:
        """Inception crop, flip and RandAugment of one image with Pillow: several times faster than with tensors."""
        assert drawn.crops is not None
        ((top, left, height, width),) = crop_boxes(image.height, image.width, drawn.crops[row : row + 1]).tolist()
        part = np.asarray(image.crop((left, top, left + width, top + height)))
        pixels = np.rint(resize_bicubic(part, self.pixels)).clip(0, 255).astype(np.uint8)
        if drawn.flips[row]:
            pixels = pixels[:, :, ::-1]
        if options.randaugment_layers:
            changed = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
            for code in drawn.changes[row].tolist():
                changed = apply_change(changed, code, options.randaugment_magnitude)
            pixels = np.asarray(changed).transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(pixels))

    def _centre(self, image: Image.Image) -> Tensor:
        centre: NDArray[np.float32] = FractionCrop(1.0)(image, self.pixels)
        return torch.from_numpy(centre.astype(np.uint8))


@dataclass(frozen=True, eq=False)
class TestPiece(Piece):
    """Test images as the authors read them: float32, normalised."""

    __test__ = False  # pytest: not a test

    def __call__(self) -> Tensor:
        return torch.from_numpy(np.stack([read_image(path, self.pixels, TEST_CROP) for path in self.paths]))


class Readers:
    """Worker processes, `count` of them, that read images for `device`; with 0 this process reads them itself.

    They start with the first images and live through all epochs until the context ends. A piece contains all that is
    needed to read it, so workers do not hold the data set.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.device, self.waiting = device, _Waiting(iter(()))
        self.loader: DataLoader[Any] | None = DataLoader(
            _Read(),
            batch_size=None,  # a piece is read as a whole
            sampler=self.waiting,
            num_workers=count,
            persistent_workers=count > 0,
            multiprocessing_context="fork" if count else None,  # starts immediately
            pin_memory=device.type == "cuda",
            worker_init_fn=_outlive_signals if count else None,
            generator=torch.Generator(),  # otherwise the global one would be advanced
        )

    def __enter__(self) -> "Readers":
        return self

    def __exit__(self, *_error: object) -> None:
        if self.loader is not None:
            self.loader._iterator = None  # ends the processes now, even if a traceback keeps this object alive
            self.loader = None

    def read(self, piece_of: Callable[[range], Piece], parts: Sequence[range]) -> Iterator[Tensor]:
        """Yields the images of each of `parts`, in order, on the device. End or abandon one call before the next.

        Raises InputError, naming the file, if an image cannot be read.
        """
        assert self.loader is not None
        pieces = [
            range(part.stop)[start : start + IMAGES_OF_A_PIECE] for part in parts for start in part[::IMAGES_OF_A_PIECE]
        ]
        self.waiting.pieces = map(piece_of, pieces)
        loaded = iter(self.loader)
        try:
            for part in parts:
                received = [_received(next(loaded)) for _ in part[::IMAGES_OF_A_PIECE]]
                yield torch.cat([images.to(self.device, non_blocking=True) for images in received])
        finally:
            del loaded  # a traceback may keep this frame alive


@contextmanager
def opened(readers: Readers | int, device: torch.device) -> Iterator[Readers]:
    """Yields `readers` or, for a number, new `Readers` with that many processes, which end with the context."""
    if isinstance(readers, Readers):
        yield readers
        return
    with Readers(readers, device) as own:
        yield own


@dataclass
class _Waiting:
    """A sampler for DataLoader that yields the pieces of the current call of `read`."""

    pieces: Iterator[Piece]

    def __iter__(self) -> Iterator[Piece]:
        return self.pieces


def _received(piece: Tensor | InputError) -> Tensor:
    if isinstance(piece, InputError):
        raise piece
    return piece


class _Read(Dataset[Any]):
    """A dataset for DataLoader. An InputError is returned: raised in a worker it would arrive as a traceback."""

    def __getitem__(self, piece: Piece) -> Tensor | InputError:
        try:
            return piece()
        except InputError as error:
            return error


def _outlive_signals(worker: int) -> None:
    for number in LEFT_TO_THE_MAIN_PROCESS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(SECONDS_TO_END))
