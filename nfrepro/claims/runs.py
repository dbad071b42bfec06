"""The runs that a test is about: their table, and the rows that a selection picks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from nfrepro.claims.claim import Claim, ClaimTest, Where
from nfrepro.claims.measured_run import MeasuredRun
from nfrepro.errors import InputError
from nfrepro.runs import store
from nfrepro.runs.table import read_table, table_path
from nfrepro.specs import load_experiment
from nfrepro.specs.origins import problem

# Values of a selection that mean the extreme one among its runs.
_EXTREME_VALUES = {("largest",): "max", ("smallest",): "min"}


@dataclass(frozen=True)
class ResultTable:
    """runs.csv of one experiment at one scale; `rows` is None before there is one. Curves are read once."""

    path: Path
    rows: pd.DataFrame | None
    folder: Path  # the folder of all runs
    runs: dict[str, MeasuredRun] = field(default_factory=dict)

    def measured(self, row: "pd.Series[Any]") -> MeasuredRun:
        name = str(row["id"])
        run = MeasuredRun({str(key): cell for key, cell in row.items()}, self.folder / name)
        return self.runs.setdefault(name, run) if row["state"] == "completed" else run


def known_scales(claims: Sequence[Claim], folder: Path) -> list[str]:
    """The scales that the claims' experiments have, in the order of their files: smaller ones first."""
    names = dict.fromkeys(test.form.experiment for claim in claims for test in claim.tests)
    return list(dict.fromkeys(found for name in names for found in load_experiment(name, folder).scales))


def read_results(results: Path, experiment: str, scale: str) -> ResultTable:
    """The stored table. Raises `InputError` if it is damaged, mixes data, or contradicts the records of its runs."""
    path, folder = table_path(results, experiment, scale), store.runs_folder(results)
    if not path.exists():
        return ResultTable(path, None, folder)
    rows = read_table(path)
    for _, row in rows.iterrows():
        _check_record(path, folder, row)
    return ResultTable(path, rows, folder)


def select(rows: pd.DataFrame, where: Where, baseline: Where) -> pd.DataFrame:
    """The rows that match `where`, and `baseline` in all other options that they have."""
    chosen = pd.Series(True, index=rows.index)
    for column, values in where.items():
        if values not in _EXTREME_VALUES:
            chosen &= _has_one_of(rows, column, values)
    for column, values in baseline.items():
        if column not in where and column in rows:
            chosen &= rows[column].isna() | _has_one_of(rows, column, values)
    found = rows[chosen]
    for column, values in where.items():
        if values in _EXTREME_VALUES:
            found = _at_extreme(found, column, _EXTREME_VALUES[values])
    return found


def split(test: ClaimTest, rows: pd.DataFrame | None) -> list[ClaimTest]:
    """One test for each value that the runs have of the options in `each`; without `each`, the test itself.

    An extreme, such as the largest depth, is that of the runs of each test: it does not limit the values.
    """
    if not test.form.each or rows is None:
        return [test]
    columns = [column for column in test.form.each if column in rows]
    where = next(iter(test.selections.values())).where
    fixed = {column: values for column, values in where.items() if values not in _EXTREME_VALUES}
    baseline = {column: values for column, values in test.baseline.items() if column not in where}
    found = select(rows, fixed, baseline)
    if found.empty or len(columns) < len(test.form.each):
        return [test]
    return [
        _narrowed(test, values) for values in found[columns].drop_duplicates().sort_values(columns).to_dict("records")
    ]


def refuse_mixed(test: ClaimTest, rows: pd.DataFrame) -> None:
    """Raises `InputError` for runs of different data or precision, unless the test itself selects among them."""
    chosen = {column for selection in test.selections.values() for column in selection.where}
    for column in ("data.name", "data.train_images", "data.test_images", "train.precision", "precision"):
        if column in rows and column not in chosen and rows[column].nunique(dropna=False) > 1:
            values = " and ".join(sorted(map(str, rows[column].unique())))
            raise problem(test.origin, f"its runs differ in {column}: {values}; say which are meant")


def readable(where: Where) -> dict[str, Any]:
    """A selection as it is written in the file."""
    return {key: values[0] if len(values) == 1 else list(values) for key, values in where.items()}


def where_text(where: Where) -> str:
    """A selection in a line of text."""
    return ", ".join(f"{key} {value}" for key, value in readable(where).items())


def part_text(test: ClaimTest) -> str:
    """The values of the options in `each` that the test is about, in a line of text; empty without `each`."""
    where = next(iter(test.selections.values())).where
    return where_text({column: where[column] for column in test.form.each if column in where})


def _check_record(path: Path, folder: Path, row: "pd.Series[Any]") -> None:
    """Raises `InputError` if a row differs from its run's record, where there is one, in state or final numbers."""
    record = store.read_record(folder / str(row["id"]))
    if record is None or row["state"] not in store.DONE:
        return
    numbers = {key: value for key, value in (record.get("final") or {}).items() if type(value) in (int, float)}
    # Reading decimals may round the last digit.
    same = all(math.isclose(row.get(key, math.nan), value, rel_tol=1e-12) for key, value in numbers.items())
    same &= record["status"] == row["state"]
    if not same:
        raise InputError(f"{path}: run {row['id']} is not what its {store.RECORD} says: run `nfrepro collect` again")


def _narrowed(test: ClaimTest, values: Mapping[Any, Any]) -> ClaimTest:
    fixed = {str(column): (None if pd.isna(value) else value,) for column, value in values.items()}
    selections = {name: replace(found, where={**found.where, **fixed}) for name, found in test.selections.items()}
    return replace(test, selections=selections)


def _at_extreme(rows: pd.DataFrame, column: str, extreme: str) -> pd.DataFrame:
    if column not in rows:
        return rows.iloc[:0]
    numbers = pd.to_numeric(rows[column], errors="coerce")
    found: pd.DataFrame = rows[numbers == numbers.agg(extreme)]
    return found


def _has_one_of(rows: pd.DataFrame, column: str, values: Sequence[Any]) -> "pd.Series[bool]":
    if column not in rows:
        return pd.Series(False, index=rows.index)
    return rows[column].map(lambda cell: any(_is(cell, value) for value in values)).astype(bool)


def _is(cell: Any, value: Any) -> bool:
    """Whether a cell of the table, in which lists and mixed columns are text, equals a value of the claims file."""
    empty = bool(pd.isna(cell))
    if value is None or empty:
        return value is None and empty
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(cell) == str(value)
    try:
        return float(cell) == value
    except ValueError:
        return False
