"""A named pipe in place of a file that is read: refused by name at once, where plain opening would wait for ever."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nfrepro.claims.looks import read_looks
from nfrepro.cost import measurements
from nfrepro.data.checksums import Checksum, read_verified
from nfrepro.errors import InputError
from nfrepro.launch import submission
from nfrepro.runs.propagation_curves import read_curves
from nfrepro.runs.pruning import tables_by_run
from nfrepro.runs.table import read_table
from nfrepro.tasks.training_probe import replace_step

EMPTY = Checksum("sha256", hashlib.sha256(b"").hexdigest())


def _curves(folder: Path) -> Any:
    row = {"id": "run", "state": "completed", "seed": 0}
    return read_curves(pd.DataFrame([row]), folder, label=lambda row: "curve")


READERS: dict[str, Callable[[Path], Any]] = {
    "submission.json": submission.read,
    ".dry-run/figure/smoke/label-shape-place.json": lambda folder: measurements.find(folder, "shape", "cpu", None, 1),
    "figure/smoke/runs.csv": lambda folder: read_table(folder / "figure" / "smoke" / "runs.csv"),
    "figure/smoke/runs-seed=0.csv": tables_by_run,
    "run/propagation.csv": _curves,
    "looks.jsonl": read_looks,
    "images.gz": lambda folder: read_verified(folder / "images.gz", EMPTY),
    "images.bin": lambda folder: read_verified(folder / "images.bin", EMPTY),
    "probe.csv": lambda folder: replace_step(folder / "probe.csv", pd.DataFrame({"step": [1]}), 1),
}


@pytest.mark.parametrize("name", READERS)
def test_a_named_pipe_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    with pytest.raises((InputError, OSError)) as refused:
        READERS[name](tmp_path)
    assert "not a regular file" in str(refused.value)
    assert str(path) in str(refused.value)
