"""Your own images in folders, resized and held in memory. No torch at import."""

import os
from pathlib import Path

from nfrepro.data.arrays import Arrays
from nfrepro.data.image_tree import ImageTree, list_tree, read_split
from nfrepro.data.options import ImageFolderOptions
from nfrepro.data.places import Files, data_roots
from nfrepro.errors import InputError

# All decoded images are held in memory, and on the device.
MAX_DECODED_BYTES = 8 * 2**30


def files(options: ImageFolderOptions) -> Files:
    """Where the folder may be found; it is never fetched."""
    return Files(
        title=f"image folder {options.folder}",
        places=tuple(root / options.folder for root in data_roots()),
        holds=os.path.lexists,
        check=lambda folder: _check(folder, options),
        advice="put train/<class>/ and test/<class>/ with the images there, or set NFREPRO_DATA",
    )


def read(options: ImageFolderOptions, folder: Path) -> Arrays:
    """Reads both splits in full. Raises InputError if the folder is malformed or too large, or an image unreadable."""
    tree = list_tree(folder)
    _require_fits(tree, options)
    return Arrays(
        train=read_split(folder, tree.train, options.pixels, resize=True),
        test=read_split(folder, tree.test, _test_pixels(options), resize=True),
        classes=tree.classes,
        label=f"image folder {options.folder}",
        left_out=len(tree.left_out),
    )


def _check(folder: Path, options: ImageFolderOptions) -> str:
    tree = list_tree(folder)
    _require_fits(tree, options)
    return f"image folder {options.folder}: {tree}"


def _require_fits(tree: ImageTree, options: ImageFolderOptions) -> None:
    train, test = (sum(map(len, split.values())) for split in (tree.train, tree.test))
    needed = 3 * (train * options.pixels**2 + test * _test_pixels(options) ** 2)
    if needed > MAX_DECODED_BYTES:
        raise InputError(
            f"image folder {options.folder}: {train + test:,} images of {options.pixels}×{options.pixels} pixels are "
            f"{needed / 2**30:.1f} GiB decoded, the limit is {MAX_DECODED_BYTES / 2**30:.0f} GiB: "
            "use fewer pixels or fewer images, or name: imagenet, which keeps none in memory"
        )


def _test_pixels(options: ImageFolderOptions) -> int:
    return options.test_pixels or options.pixels
