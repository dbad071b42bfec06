"""Image files sorted into folders: `train/<class>/*.jpg`, `test/<class>/*.jpg` (or `val`). No torch at import.

All such folders follow one rule: a class is a folder that is not hidden, and its images are the files in it that have
an image extension and are not hidden. Everything else, including folders in a class folder, is left out and counted.
Classes are sorted by name, or, if they are named 0, 1, … N - 1, by number, which is then the label.
"""

import os
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nfrepro.data.arrays import Split
from nfrepro.data.decoded_cache import decoded
from nfrepro.errors import InputError

# For images large enough to be resized: these are decoded outside Python's lock; small ones would contend for it.
DECODING_THREADS = 4
# Images a thread decodes before it reports back.
DECODING_CHUNK = 64
# PIL.Image.Resampling.BILINEAR; Pillow itself comes with torchvision and is not imported here.
BILINEAR = 2
LONGEST_LIST = 3


@dataclass(frozen=True)
class ListedSplit:
    """Image files by class, sorted by name, and the entries left out, relative to the folder of the tree."""

    files: dict[str, list[Path]]
    left_out: tuple[str, ...]

    def __len__(self) -> int:
        return sum(map(len, self.files.values()))


@dataclass(frozen=True)
class ImageTree:
    """Image files by class, sorted by name; both splits have the same classes, in the same order."""

    train: dict[str, list[Path]]
    test: dict[str, list[Path]]
    left_out: tuple[str, ...] = ()  # relative to the folder of the tree

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.train)

    def __str__(self) -> str:
        train, test = (sum(map(len, split.values())) for split in (self.train, self.test))
        line = f"{train:,} training and {test:,} test images in {len(self.train):,} classes"
        return f"{line}; {left_out_line(self.left_out)}" if self.left_out else line


def left_out_line(names: Sequence[str]) -> str:
    """The number of entries left out and up to three of their names, in words."""
    return f"{len(names):,} other {'entry is' if len(names) == 1 else 'entries are'} left out ({first_names(names)})"


def list_tree(folder: Path, test_names: Sequence[str] = ("test", "val")) -> ImageTree:
    """Lists the images below `folder` without opening any. The test split is the first of `test_names` that exists.

    Raises InputError if a split or a class is missing, there are fewer than two classes, a class has no images, or a
    link leads out of `folder`.
    """
    train_folder = _split_folder(folder, ("train",))
    test_folder = _split_folder(folder, test_names)
    train, test = list_split(train_folder, folder), list_split(test_folder, folder)
    matched = _same_classes(train.files, test.files, train_folder, test_folder)
    require_two_classes(train_folder, matched)
    return ImageTree(train.files, matched, (*train.left_out, *test.left_out))


def read_split(folder: Path, files: dict[str, list[Path]], pixels: int, resize: bool) -> Split:
    """All `files` below `folder` as RGB, uint8 [N, 3, pixels, pixels], with labels; decoded once and cached there.

    With `resize` the shorter side becomes `pixels` and the centre is cut out. Raises InputError, naming the file, for
    an image that cannot be read or, without `resize`, has another size.
    """
    paths = [path for class_paths in files.values() for path in class_paths]
    counts = [len(class_paths) for class_paths in files.values()]
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    how = f"{pixels} {'resized' if resize else 'as they are'}"
    return Split(decoded(folder, paths, how, partial(_decode, paths, pixels, resize)), labels)


def _split_folder(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_dir():
            refuse_link_out(folder / name, folder)
            return folder / name
    raise InputError(f"{folder}: no folder {' or '.join(names)}: images go into {folder / names[0]}/<class>/")


def list_split(split: Path, tree: Path) -> ListedSplit:
    """Lists the images in `split`/<class>/. Raises InputError like `list_tree`."""
    left_out: list[str] = []
    names = []
    for entry in _entries(split, tree):
        if entry.name.startswith(".") or not entry.is_dir():
            left_out.append(_below(entry, tree))
        else:
            names.append(entry.name)
    if not names:
        raise InputError(f"{split}: no class folders: images go into {split}/<class>/")
    files = {}
    for name in _in_order(names):
        normal = unicodedata.normalize("NFC", name)
        if normal in files:
            raise InputError(f"{split}: two class folders named {normal}, in different Unicode forms: rename one")
        files[normal] = list(_images(split / name, tree, left_out))
    return ListedSplit(files, tuple(left_out))


def require_two_classes(split: Path, classes: Collection[str]) -> None:
    """Raises InputError for a folder with a single class: there is nothing to classify."""
    if len(classes) < 2:
        name = next(iter(classes))
        raise InputError(f"{split}: only one class folder ({name}): images go into {split}/<class>/, two or more")


def _in_order(names: Sequence[str]) -> list[str]:
    """Sorts `names` as text, or as numbers if they are 0, 1, … N - 1."""
    are_labels = set(names) == {str(label) for label in range(len(names))}
    return sorted(names, key=int) if are_labels else sorted(names)


def _images(folder: Path, tree: Path, left_out: list[str]) -> Iterator[Path]:
    """Yields the images of one class; adds all other entries to `left_out`."""
    from nfrepro.data.image_reader import ENDINGS, is_image_name  # imports Pillow

    found = False
    for entry in _entries(folder, tree):
        if not is_image_name(entry.name) or entry.is_dir():
            left_out.append(_below(entry, tree))
        elif not entry.is_file():
            raise InputError(f"{entry.path}: not a regular file: replace it by an image, or delete it")
        else:
            found = True
            yield folder / entry.name
    if not found:
        raise InputError(f"{folder}: no images ({', '.join(ENDINGS)}): add some or delete the folder")


def _below(entry: os.DirEntry[str], tree: Path) -> str:
    return str(Path(entry.path).relative_to(tree))


def _entries(folder: Path, tree: Path) -> list[os.DirEntry[str]]:
    """The entries of `folder`, sorted by name; refuses links that lead out of `tree`, except hidden ones."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror or error}): make it readable") from None
    for entry in entries:
        if entry.is_symlink() and not entry.name.startswith("."):
            refuse_link_out(Path(entry.path), tree)
    return entries


def refuse_link_out(path: Path, tree: Path) -> None:
    """Raises InputError if `path`, with links followed, is not inside `tree`."""
    if not path.resolve().is_relative_to(tree.resolve()):
        raise InputError(f"{path}: a link out of {tree}: replace it with its target")


def _same_classes(
    train: dict[str, list[Path]], test: dict[str, list[Path]], train_folder: Path, test_folder: Path
) -> dict[str, list[Path]]:
    """Returns `test` with its classes in the order of `train`. Raises InputError if one of them lacks a class."""
    for classes, others, other_folder in ((train, test, test_folder), (test, train, train_folder)):
        missing = [name for name in classes if name not in others]
        if missing:
            raise InputError(
                f"{other_folder}: {len(missing)} class folders missing ({first_names(missing)}): "
                "train and test need the same classes"
            )
    return {name: test[name] for name in train}


def first_names(names: Sequence[str]) -> str:
    """Up to three of `names`, as text for the user."""
    return ", ".join(names[:LONGEST_LIST]) + (", …" if len(names) > LONGEST_LIST else "")


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
    """Reads one image, uint8 [3, pixels, pixels]."""
    from nfrepro.data.image_reader import read_rgb  # imports Pillow

    image = read_rgb(path)
    if resize:
        side = min(image.size)
        left, top = ((length - side) / 2 for length in image.size)
        # Resizes only the central square: equal to resizing first, without a huge intermediate image.
        image = image.resize((pixels, pixels), resample=BILINEAR, box=(left, top, left + side, top + side))
    elif image.size != (pixels, pixels):
        raise InputError(f"{path}: {image.width}×{image.height} pixels instead of {pixels}×{pixels}: replace the image")
    return np.asarray(image, np.uint8).transpose(2, 0, 1)
