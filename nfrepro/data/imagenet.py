"""ImageNet, or another large set, in folders: listed here, and read while a network trains. No torch at import."""

import os
from pathlib import Path

import numpy as np

from nfrepro.data.arrays import Listing, NamedFiles
from nfrepro.data.image_tree import ImageTree, first_names, list_tree
from nfrepro.data.options import ImageNetOptions
from nfrepro.data.places import Files, data_roots
from nfrepro.errors import InputError


def files(options: ImageNetOptions) -> Files:
    """Where the folder may be found; it is never fetched."""
    return Files(
        title=f"ImageNet folder {options.folder}",
        places=tuple(root / options.folder for root in data_roots()),
        holds=os.path.lexists,
        check=lambda folder: _check(folder, options),
        advice="put train/<class>/ and val/<class>/ with the images there, or set NFREPRO_DATA",
    )


def read(options: ImageNetOptions, folder: Path) -> Listing:
    """Lists all images. Raises InputError if the folder is malformed or has another number of classes."""
    tree = _list(folder)
    _require_classes(tree, folder, options)
    return Listing(
        folder,
        train=_named(tree.train, folder),
        test=_named(tree.test, folder),
        classes=tree.classes,
        label=_label(options),
        left_out=len(tree.left_out),
    )


def _label(options: ImageNetOptions) -> str:
    return "ImageNet" if options.folder == "imagenet" else f"ImageNet folder {options.folder}"


def _check(folder: Path, options: ImageNetOptions) -> str:
    tree = _list(folder)
    _require_classes(tree, folder, options)
    return f"{_label(options)}: {tree}"


def _list(folder: Path) -> ImageTree:
    return list_tree(folder, test_names=("val",))


def _named(files: dict[str, list[Path]], folder: Path) -> NamedFiles:
    names = [os.fsencode(path.relative_to(folder)) for paths in files.values() for path in paths]
    labels = np.repeat(np.arange(len(files), dtype=np.int64), [len(paths) for paths in files.values()])
    return NamedFiles(np.array(names, np.bytes_), labels)


def _require_classes(tree: ImageTree, folder: Path, options: ImageNetOptions) -> None:
    if len(tree.classes) != options.classes:
        raise InputError(
            f"{folder}: {len(tree.classes):,} class folders ({first_names(tree.classes)}) where data.classes is "
            f"{options.classes:,}: set it to their number, or complete the folders"
        )
