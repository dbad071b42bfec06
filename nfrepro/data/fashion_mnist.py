"""Fashion-MNIST: four files in the idx format, compressed or not. No torch."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nfrepro.data.arrays import Arrays, Split
from nfrepro.data.checksums import Checksum, read_verified
from nfrepro.data.fetching import debian_step, torchvision_step
from nfrepro.data.options import FashionMNISTOptions
from nfrepro.data.places import OWN_ROOT, Files, data_roots
from nfrepro.errors import InputError

# Checksums of the uncompressed content: Debian recompressed the files, so the .gz files have more than one checksum.
FILES = {
    "train-images-idx3-ubyte": Checksum("sha256", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "train-labels-idx1-ubyte": Checksum("sha256", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": Checksum("sha256", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte": Checksum("sha256", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}
CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
# Over all 47,040,000 pixels of the train split, values in 0..1.
MEAN = (0.28604059698879547,)
STD = (0.3530242445149226,)

PACKAGE = "dataset-fashion-mnist"
PACKAGE_FOLDER = "usr/share/datasets/fashion-mnist"
INSTALLED_FOLDER = Path("/") / PACKAGE_FOLDER


def files(options: FashionMNISTOptions) -> Files:
    """Where Fashion-MNIST may be found and how it is fetched."""
    below_roots = [
        place for root in data_roots() for place in (root / "fashion-mnist", root / "FashionMNIST" / "raw", root)
    ]
    destination = OWN_ROOT / "fashion-mnist"
    return Files(
        title="Fashion-MNIST",
        places=(*below_roots, INSTALLED_FOLDER),
        holds=_holds,
        check=_check,
        advice=f"run `apt-get install {PACKAGE}`, or put its four files into {destination}, or set NFREPRO_DATA",
        destination=destination,
        fetch_steps=(torchvision_step("FashionMNIST", "FashionMNIST/raw"), debian_step(PACKAGE, PACKAGE_FOLDER)),
    )


def read(options: FashionMNISTOptions, folder: Path) -> Arrays:
    """Reads both splits in full. Raises InputError, naming the file, if one is missing or altered."""
    return Arrays(
        train=_read_split(folder, "train"),
        test=_read_split(folder, "t10k"),
        classes=CLASSES,
        label="Fashion-MNIST",
        mean=MEAN,
        std=STD,
    )


def _read_split(folder: Path, prefix: str) -> Split:
    images = _read_idx(folder, f"{prefix}-images-idx3-ubyte")
    labels = _read_idx(folder, f"{prefix}-labels-idx1-ubyte")
    return Split(images[:, np.newaxis], labels.astype(np.int64))


def _read_idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """Reads an idx file: two zero bytes, type, number of dimensions, each size as big-endian uint32, the values."""
    content = read_verified(_path(folder, name), FILES[name])
    dimensions = content[3]
    sizes = np.frombuffer(content, ">u4", count=dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(sizes)


def _holds(folder: Path) -> bool:
    return any(os.path.lexists(path) for name in FILES for path in _paths(folder, name))


def _check(folder: Path) -> None:
    for name, checksum in FILES.items():
        read_verified(_path(folder, name), checksum)


def _path(folder: Path, name: str) -> Path:
    for path in _paths(folder, name):
        if os.path.lexists(path):
            return path
    raise InputError(f"{folder / name}.gz: missing, but the other Fashion-MNIST files are there: add it or delete them")


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    # Uncompressed first: it is faster to read.
    return folder / name, folder / f"{name}.gz"
