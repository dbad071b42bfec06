"""The authors' weights in tests/reference, unpacked."""

from pathlib import Path
from typing import Any

import numpy as np

from nfrepro.models.npz import stored_trees

Tree = dict[str, dict[str, Any]]


def read_npz(path: Path) -> tuple[Tree, Tree]:
    """`params` and `state` of a numpy archive."""
    params, state = (
        {module: {name: np.asarray(array) for name, array in arrays.items()} for module, arrays in tree.items()}
        for tree in stored_trees(path)
    )
    return params, state
