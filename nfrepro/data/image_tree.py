"""Image files sorted into folders: `train/<class>/*.jpg`, `test/<class>/*.jpg` (or `val`). No torch at import."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nfrepro.data.arrays import Split
from nfrepro.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png")
# For images large enough to be resized: these are decoded outside Python's lock, small ones would fight for it.
DECODING_THREADS = 4
# Images a thread decodes before it reports back.
DECODING_CHUNK = 64
# PIL.Image.Resampling.BILINEAR; Pillow itself comes with torchvision and is not imported here.
BILINEAR = 2


@dataclass(frozen=True)
class ImageTree:
    """Image files by class, sorted by name; both splits have the same classes, in the same order."""

    train: dict[str, list[Path]]
    test: dict[str, list[Path]]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.train)


def list_tree(folder: Path, test_names: Sequence[str] = ("test", "val")) -> ImageTree:
    """Lists the images below `folder` without opening one. The test split is the first of `test_names` there is.

    Raises InputError where a split or a class is missing, a class has no images, or a link leads out of `folder`.
    """
    train_folder = _split_folder(folder, ("train",))
    test_folder = _split_folder(folder, test_names)
    train, test = list_split(train_folder, folder), list_split(test_folder, folder)
    _require_same_classes(train, test, train_folder, test_folder)
    return ImageTree(train, test)


def read_split(files: dict[str, list[Path]], pixels: int, resize: bool) -> Split:
    """Decodes all files to RGB: uint8 [N, 3, pixels, pixels] with their labels.

    With `resize` the shorter side becomes `pixels` and the centre is cut out; without, another size is an InputError,
    as is, by name, an image that cannot be read.
    """
    paths = [path for class_paths in files.values() for path in class_paths]
    counts = [len(class_paths) for class_paths in files.values()]
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return Split(_decode(paths, pixels, resize), labels)


def _split_folder(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_dir():
            refuse_link_out(folder / name, folder)
            return folder / name
    raise InputError(f"{folder}: no folder {' or '.join(names)}: images go into {folder / names[0]}/<class>/")


def list_split(split: Path, tree: Path) -> dict[str, list[Path]]:
    """The images at `split`/<class>/ by class, sorted by name; InputError as for `list_tree`."""
    classes = [entry.name for entry in _entries(split, tree) if entry.is_dir()]
    if not classes:
        raise InputError(f"{split}: no class folders: images go into {split}/<class>/")
    return {name: _list_class(split / name, tree) for name in classes}


def _list_class(folder: Path, tree: Path) -> list[Path]:
    names = [entry.name for entry in _entries(folder, tree) if entry.name.lower().endswith(EXTENSIONS)]
    if not names:
        raise InputError(f"{folder}: no images ({', '.join(EXTENSIONS)}): put some there or delete the folder")
    return [folder / name for name in names]


def _entries(folder: Path, tree: Path) -> list[os.DirEntry[str]]:
    """What is in `folder`, sorted by name, without hidden entries; refuses links that lead out of `tree`."""
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror or error}): make it readable") from None
    for entry in entries:
        if entry.is_symlink():
            refuse_link_out(Path(entry.path), tree)
    return entries


def refuse_link_out(path: Path, tree: Path) -> None:
    """Raises InputError where `path` does not lie in `tree` once links are followed."""
    if not path.resolve().is_relative_to(tree.resolve()):
        raise InputError(f"{path}: a link that leads out of {tree}: replace it by what it leads to")


def _require_same_classes(
    train: dict[str, list[Path]], test: dict[str, list[Path]], train_folder: Path, test_folder: Path
) -> None:
    for classes, others, other_folder in ((train, test, test_folder), (test, train, train_folder)):
        missing = [name for name in classes if name not in others]
        if missing:
            raise InputError(
                f"{other_folder}: {len(missing)} class folders missing ({first_names(missing)}): "
                "train and test need the same classes"
            )


def first_names(names: Sequence[str]) -> str:
    """Three of `names`, for people."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _decode(paths: Sequence[Path], pixels: int, resize: bool) -> NDArray[np.uint8]:
    images = np.empty((len(paths), 3, pixels, pixels), np.uint8)

    def decode(start: int) -> None:
        for index in range(start, min(start + DECODING_CHUNK, len(paths))):
            images[index] = _decode_one(paths[index], pixels, resize)

    with ThreadPoolExecutor(DECODING_THREADS if resize else 1) as pool:
        for _ in pool.map(decode, range(0, len(paths), DECODING_CHUNK)):
            pass
    return images


def _decode_one(path: Path, pixels: int, resize: bool) -> NDArray[np.uint8]:
    """uint8 [3, pixels, pixels]"""
    image = _load(path)
    if resize:
        side = min(image.size)
        left, top = ((length - side) / 2 for length in image.size)
        # Resizes the centre square alone: equal to resizing first, without a huge image in between.
        image = image.resize((pixels, pixels), resample=BILINEAR, box=(left, top, left + side, top + side))
    elif image.size != (pixels, pixels):
        raise InputError(f"{path}: {image.width}×{image.height} pixels instead of {pixels}×{pixels}: replace the image")
    return np.asarray(image, np.uint8).transpose(2, 0, 1)


def _load(path: Path) -> Any:
    """The image in RGB, as torchvision's folder data sets load it."""
    from torchvision.datasets.folder import pil_loader  # heavy

    try:
        return pil_loader(path)
    except Exception as error:  # the decoders raise errors of many classes
        raise InputError(f"{path}: not a readable image ({type(error).__name__}): delete or replace it") from None
