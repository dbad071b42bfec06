"""A data set as its reader returns it: NumPy arrays, or the names of its files. No torch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Split:
    """One split in memory. `images`: uint8 [N, C, H, W]; `labels`: int64 [N], the index of the class."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Arrays:
    """Both splits in full. `mean`, `std`: per channel, for values in 0..1; None: computed from `train`."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    label: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    left_out: int = 0  # other files in its folders


@dataclass(frozen=True, eq=False)
class NamedFiles:
    """One split by file. `names`: bytes [N], relative to the data set's folder; `labels`: int64 [N], class indices."""

    names: NDArray[np.bytes_]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Listing:
    """Both splits as names of files in `folder`."""

    folder: Path
    train: NamedFiles
    test: NamedFiles
    classes: tuple[str, ...]
    label: str
    left_out: int = 0  # other files in its folders
