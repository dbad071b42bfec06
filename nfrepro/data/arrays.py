"""What a reader gives: a data set as NumPy arrays. No torch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Split:
    """`images`: uint8 [N, C, H, W]; `labels`: int64 [N], the index of the class."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Arrays:
    """Both splits in full. `mean`, `std`: per channel of values in 0..1; None = to be computed from `train`."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    label: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
