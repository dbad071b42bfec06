"""The stored curves of runs that measured a signal, run by run."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from nfrepro import atomic
from nfrepro.errors import InputError

MOST_NAMED = 3  # runs that are not drawn; more are only counted
TABLE = "propagation.csv"


def read_curves(
    table: pd.DataFrame, folder: Path, label: Callable[[pd.Series], str], file: str = TABLE
) -> dict[str, pd.DataFrame]:
    """Label -> rows of `file` of all its completed runs, in the order of `table`, whose runs are stored in `folder`.

    `label` names the curve of a row of runs.csv. Raises `InputError` for a run without its curves.
    """
    found: dict[str, list[pd.DataFrame]] = {}
    for _, row in table.iterrows():
        if row["state"] != "completed":
            continue
        path = folder / str(row["id"]) / file
        try:
            rows = pd.read_csv(io.BytesIO(atomic.read_bytes(path)))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error}): redo the run with --force '{row['id']}'") from None
        found.setdefault(label(row), []).append(rows.assign(seed=row["seed"]))
    return {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}


def check_some(curves: Mapping[str, pd.DataFrame], table: pd.DataFrame, experiment: str) -> None:
    """Raises `InputError` if no run is completed, so that there is nothing to draw."""
    if not curves:
        raise InputError(f"{experiment}: no run is completed:{unfinished(table)}")


def seeds_drawn(curves: Mapping[str, pd.DataFrame]) -> str:
    """The number of seeds of the curves: `10`, or `4 to 10` if they differ."""
    counts = {int(rows["seed"].nunique()) for rows in curves.values()}
    return " to ".join(str(count) for count in sorted({min(counts), max(counts)})) if counts else "0"


def unfinished(table: pd.DataFrame) -> str:
    """A sentence each on runs that were not run and on others that are not drawn; empty if all are drawn."""
    not_run = table["state"] == "missing"
    others = ~not_run & (table["state"] != "completed")
    reasons = {"Not run": not_run, "Not drawn, because not completed": others}
    return "".join(f" {reason}: {_named(table, which)}." for reason, which in reasons.items() if which.any())


def _named(table: pd.DataFrame, which: "pd.Series[bool]") -> str:
    ids = table.loc[which, "id"].tolist()
    return ", ".join(map(str, ids)) if len(ids) <= MOST_NAMED else f"{len(ids)} of {len(table)} runs"
