"""Table of all runs of an experiment at one scale, runs.csv: a row per run, flattened config and final numbers."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nfrepro import atomic
from nfrepro.errors import InputError
from nfrepro.runs import store
from nfrepro.specs import Run

_LONGEST = 80


def overrides_suffix(overrides: Sequence[str]) -> str:
    """The suffix of table and figure names that distinguishes a sweep with overrides from others.

    Empty without overrides; `-seed=0-train.epochs=4` with two. If that would be ambiguous, because characters unsuited
    to file names became `_`, or would be too long, a hash follows: `-model.blocks=_1_1_~5d2c3f0a`.
    """
    given = sorted(overrides)
    plain = re.sub(r"[^A-Za-z0-9_.=-]", "_", "".join(f"-{override}" for override in given))
    if len(plain) <= _LONGEST and re.split(r"-(?=[A-Za-z_][A-Za-z0-9_.]*=)", plain) == ["", *given]:
        return plain
    return f"{plain[:_LONGEST]}~{hashlib.sha256(json.dumps(given).encode()).hexdigest()[:8]}"


def table_path(results: Path, experiment: str, scale: str, overrides: Sequence[str] = ()) -> Path:
    """The path of the table: runs.csv, or a separate file for runs with overrides."""
    return store.scale_folder(results, experiment, scale) / f"runs{overrides_suffix(overrides)}.csv"


def collect(
    results: Path, experiment: str, scale: str, runs: Sequence[Run], overrides: Sequence[str] = ()
) -> pd.DataFrame:
    """One row for each of `runs`, finished or not, then runs of the former table that have left the experiment.

    Columns: `id`, `state`, `in_experiment`, the config as `section.key`, then the final numbers and provenance.
    Failed and missing runs keep their row, without numbers.
    """
    rows = [_row(store.read(store.run_folder(results, run), run), run.id, run.config, True) for run in runs]
    listed = {run.id for run in runs}
    for name in _ids(table_path(results, experiment, scale, overrides)):
        stored = store.read(store.runs_folder(results) / name)
        if name not in listed and stored.record is not None:
            rows.append(_row(stored, name, stored.record["config"], False))
    return pd.DataFrame(rows, columns=_columns(rows))


def _ids(path: Path) -> list[str]:
    """The sorted run ids of a table; none if it is missing or malformed: the runs are in the store all the same."""
    try:
        rows = csv.DictReader(io.StringIO(atomic.read_text(path), newline=""))
        return sorted({row["id"] for row in rows if re.fullmatch(r"\w[\w.-]*", row["id"] or "")})
    except (OSError, ValueError, KeyError, csv.Error):
        return []


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Writes `table` as CSV and returns its path; removes incomplete files of killed processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.remove_half_written(path)
    text = io.StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    atomic.write_text(path, text.getvalue())
    return path


def read_table(path: Path) -> pd.DataFrame:
    """The rows of a table that belong to the experiment. Raises `InputError` for an unreadable table or mixed data."""
    try:
        table = pd.read_csv(io.BytesIO(atomic.read_bytes(path)))
    except FileNotFoundError:
        experiment, scale = path.parts[-3:-1]
        raise InputError(f"{path}: no such table: run `make sweep EXP={experiment} SCALE={scale}` first") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    table = table[table["in_experiment"]].reset_index(drop=True)
    for column in ("provenance.data", "provenance.data_fingerprint"):
        found = sorted(table[column].dropna().unique()) if column in table else []
        if len(found) > 1 and "data.name" in table and table["data.name"].nunique() == 1:
            raise InputError(f"{path}: runs on different data cannot share a table: {column} is {' and '.join(found)}")
    return table


def _row(stored: store.Stored, name: str, config: dict[str, Any], in_experiment: bool) -> dict[str, Any]:
    record = stored.record or {}
    final = record.get("final") or {}
    provenance = record.get("provenance") or {}
    kept = {key: provenance.get(key) for key in ("data", "data_fingerprint", "device", "threads", "processor")}
    git = provenance.get("git") or {}
    return {
        "id": name,
        "state": stored.state,
        "in_experiment": in_experiment,
        **flatten(config),
        **final,
        **{f"provenance.{key}": value for key, value in kept.items()},
        "provenance.git": git.get("sha"),
        "provenance.dirty": git.get("dirty"),
        "error": record.get("error"),
    }


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turns `{"model": {"alpha": 0.2}}` into `{"model.alpha": 0.2}`; a list becomes text such as `[3, 4, 6, 3]`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = str(value) if isinstance(value, list) else value
    return flat


def _columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The union of all rows' keys in a stable order: config before results, in the order of the fullest rows."""
    columns: dict[str, None] = {}
    for row in sorted(rows, key=len, reverse=True):
        columns |= dict.fromkeys(row)
    results = [name for name in columns if "." not in name or name.startswith("provenance.")]
    front = [name for name in ("id", "state", "in_experiment") if name in columns]
    config = [name for name in columns if name == "seed" or (name not in results)]
    return front + config + [name for name in results if name not in front and name != "seed"]
