"""CIFAR-10: the original pickled batches, or the images as JPEG or PNG files in folders. No torch at import."""

import os
import pickle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nfrepro.data.arrays import Arrays, Split
from nfrepro.data.checksums import Checksum, read_verified
from nfrepro.data.fetching import torchvision_step
from nfrepro.data.image_tree import ImageTree, list_tree, read_split
from nfrepro.data.options import CIFAR10Options
from nfrepro.data.places import OWN_ROOT, Files, data_roots
from nfrepro.errors import InputError

TRAIN_BATCHES = {
    "data_batch_1": Checksum("md5", "c99cafc152244af753f735de768cd75f"),
    "data_batch_2": Checksum("md5", "d4bba439e000b95fd0a9bffe97cbabec"),
    "data_batch_3": Checksum("md5", "54ebc095f3ab1f0389bbae665268c751"),
    "data_batch_4": Checksum("md5", "634d18415352ddfa80567beed471001a"),
    "data_batch_5": Checksum("md5", "482c414d41f54cd18b22e5b47cb7c3cb"),
}
TEST_BATCHES = {"test_batch": Checksum("md5", "40351d587109b95175f43aff81a1287e")}
BATCHES_FOLDER = "cifar-10-batches-py"

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PIXELS = 32
# For the original batches; the JPEG files are lossy, so theirs are computed.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
# Images per class in the folders: a partly unpacked tree must not pass for CIFAR-10.
TRAIN_IMAGES_PER_CLASS = 5000
TEST_IMAGES_PER_CLASS = 1000


def files(options: CIFAR10Options) -> Files:
    """Where CIFAR-10 may be found and how it is fetched."""
    names = ("cifar10", "cifar-10", "cifar10-images", BATCHES_FOLDER, "")
    destination = OWN_ROOT / BATCHES_FOLDER
    return Files(
        title="CIFAR-10",
        places=tuple(root / name for root in data_roots() for name in names),
        holds=lambda folder: _batches(folder) is not None or _holds_tree(folder),
        check=_check,
        advice=(
            f"put the six batch files into {destination}, or the images into {OWN_ROOT}/cifar10/train/<class>/ and "
            f"{OWN_ROOT}/cifar10/test/<class>/, or set NFREPRO_DATA"
        ),
        destination=destination,
        fetch_steps=(torchvision_step("CIFAR10", BATCHES_FOLDER),),
    )


def read(options: CIFAR10Options, folder: Path) -> Arrays:
    """Reads both splits in full, from the batches if `folder` has them, otherwise from its image files.

    Raises InputError, naming the file, for a missing or altered batch, an incomplete tree or an unreadable image.
    """
    batches = _batches(folder)
    return _read_tree(folder) if batches is None else _read_batches(batches)


def _check(folder: Path) -> str | None:
    batches = _batches(folder)
    if batches is None:
        return f"CIFAR-10 (JPEG): {_list_complete_tree(folder)}"
    for name, checksum in (TRAIN_BATCHES | TEST_BATCHES).items():
        read_verified(batches / name, checksum)
    return None


def _batches(folder: Path) -> Path | None:
    """The folder of the batch files, or None if there are none."""
    for candidate in (folder, folder / BATCHES_FOLDER):
        if any(os.path.lexists(candidate / name) for name in TRAIN_BATCHES | TEST_BATCHES):
            return candidate
    return None


def _read_batches(folder: Path) -> Arrays:
    return Arrays(
        train=_join([_read_batch(folder / name, checksum) for name, checksum in TRAIN_BATCHES.items()]),
        test=_join([_read_batch(folder / name, checksum) for name, checksum in TEST_BATCHES.items()]),
        classes=CLASSES,
        label="CIFAR-10",
        mean=MEAN,
        std=STD,
    )


def _read_batch(path: Path, checksum: Checksum) -> Split:
    # A pickle can run any code, so it is loaded only once its content is known to be the original.
    content = read_verified(path, checksum)
    batch = pickle.loads(content, encoding="latin1")
    images: NDArray[np.uint8] = np.asarray(batch["data"], np.uint8).reshape(-1, 3, PIXELS, PIXELS)
    return Split(images, np.asarray(batch["labels"], np.int64))


def _join(splits: list[Split]) -> Split:
    return Split(np.concatenate([split.images for split in splits]), np.concatenate([split.labels for split in splits]))


def _holds_tree(folder: Path) -> bool:
    return any(os.path.lexists(folder / "train" / name) for name in CLASSES)


def _read_tree(folder: Path) -> Arrays:
    tree = _list_complete_tree(folder)
    return Arrays(
        train=read_split(folder, tree.train, PIXELS, resize=False),
        test=read_split(folder, tree.test, PIXELS, resize=False),
        classes=CLASSES,
        label="CIFAR-10 (JPEG)",
        left_out=len(tree.left_out),
    )


def _list_complete_tree(folder: Path) -> ImageTree:
    tree = list_tree(folder)
    if tree.classes != CLASSES:
        raise InputError(f"{folder}: class folders are not CIFAR-10's ({', '.join(CLASSES)}): use name image_folder")
    for split, per_class in ((tree.train, TRAIN_IMAGES_PER_CLASS), (tree.test, TEST_IMAGES_PER_CLASS)):
        for paths in split.values():
            if len(paths) != per_class:
                raise InputError(
                    f"{paths[0].parent}: {len(paths):,} images, but CIFAR-10 has {per_class:,}: "
                    "unpack it again, or use name image_folder"
                )
    return tree
