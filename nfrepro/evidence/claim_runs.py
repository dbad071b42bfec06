"""The runs that a test is about, and the values that they give: one a seed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from nfrepro.errors import did_you_mean
from nfrepro.evidence.claim_quantities import EXTREMES, MeasuredRun, NoValue
from nfrepro.evidence.claims import ClaimTest, Where
from nfrepro.evidence.collection import read_table, table_path
from nfrepro.evidence.store import DONE
from nfrepro.evidence.verdicts import Sample
from nfrepro.specs.origins import problem

LEAST_SEEDS = 2


@dataclass(frozen=True)
class Evidence:
    """What a test has to go by, and how many of its runs are in which state."""

    sample: Sample
    states: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ResultTable:
    """runs.csv of one experiment at one scale; None where there is none yet. Curves are read once."""

    path: Path
    rows: pd.DataFrame | None
    runs: dict[str, MeasuredRun] = field(default_factory=dict)

    def measured(self, row: "pd.Series[Any]") -> MeasuredRun:
        name = str(row["id"])
        if name not in self.runs:
            self.runs[name] = MeasuredRun({str(key): cell for key, cell in row.items()}, self.path.parent / name)
        return self.runs[name]


def read_results(results: Path, experiment: str, scale: str) -> ResultTable:
    """Raises `InputError` for a damaged table or one of mixed data."""
    path = table_path(results, experiment, scale)
    return ResultTable(path, read_table(path) if path.exists() else None)


def gather(test: ClaimTest, table: ResultTable) -> Evidence:
    """The values of the test's quantity. Raises `InputError` for selections and columns that make no sense."""
    bounds = test.form.rule.bounds
    if table.rows is None:
        return Evidence(Sample(bounds, reason=f"no table {table.path}"))
    chosen = select(table.rows, test.where, test.baseline)
    against = None if test.against is None else select(table.rows, test.against, test.baseline)
    rows = chosen if against is None else pd.concat([chosen, against])
    states = dict(Counter(rows["state"]))
    if chosen.empty or (against is not None and against.empty):
        return Evidence(Sample(bounds, reason="the table has no such runs"), states)
    unfinished = {state: count for state, count in states.items() if state not in DONE}
    if unfinished:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(unfinished.items()))
        return Evidence(Sample(bounds, reason=f"of {len(rows)} runs: {counts}"), states)
    _check_columns(test, table.rows.columns, table.path)
    try:
        values = tuple(_values(test, table, chosen, against))
    except NoValue as error:
        return Evidence(Sample(bounds, reason=str(error)), states)
    if len(values) < LEAST_SEEDS:
        seeds = f"{len(values)} completed seed{'' if len(values) == 1 else 's'}"
        return Evidence(Sample(bounds, reason=f"{seeds}: an interval needs {LEAST_SEEDS}"), states)
    return Evidence(Sample(bounds, values), states)


def select(rows: pd.DataFrame, where: Where, baseline: Where) -> pd.DataFrame:
    """The rows that `where` means, and that agree with `baseline` in all other options that they have."""
    chosen = pd.Series(True, index=rows.index)
    for column, values in where.items():
        chosen &= _has_one_of(rows, column, values)
    for column, values in baseline.items():
        if column not in where and column in rows:
            chosen &= rows[column].isna() | _has_one_of(rows, column, values)
    return rows[chosen]


def _has_one_of(rows: pd.DataFrame, column: str, values: Sequence[Any]) -> "pd.Series[bool]":
    if column not in rows:
        return pd.Series(False, index=rows.index)
    return rows[column].map(lambda cell: any(_is(cell, value) for value in values)).astype(bool)


def _is(cell: Any, value: Any) -> bool:
    """Whether a cell of the table, where lists and mixed columns are text, is the value of a claims file."""
    empty = bool(pd.isna(cell))
    if value is None or empty:
        return value is None and empty
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(cell) == str(value)
    try:
        return float(cell) == value
    except ValueError:
        return False


def _values(test: ClaimTest, table: ResultTable, chosen: pd.DataFrame, against: pd.DataFrame | None) -> Iterator[float]:
    """A value for each seed without a diverged run."""
    for seed, rows in chosen.groupby("seed"):
        others = None if against is None else against[against["seed"] == seed]
        if others is not None and others.empty:
            raise NoValue(f"seed {seed}: no run to compare with")
        if test.form.across is None:
            _refuse_several(test, rows, "where")
        if others is not None:
            _refuse_several(test, others, "against")
        if (rows["state"] == "diverged").any() or (others is not None and (others["state"] == "diverged").any()):
            continue
        other = None if others is None else table.measured(others.iloc[0])
        found = [test.form.quantity.value(table.measured(row), other) for _, row in rows.iterrows()]
        yield float(EXTREMES[test.form.across or "largest"](found))


def _refuse_several(test: ClaimTest, rows: pd.DataFrame, selection: str) -> None:
    if len(rows) < 2:
        return
    options = [column for column in map(str, rows) if "." in column and not column.startswith("provenance.")]
    differing = [column for column in options if rows[column].nunique(dropna=False) > 1]
    named = f"say which {' and '.join(differing[:3]) or 'one'} is meant"
    hint = f"{named}, or across" if selection == "where" else named
    raise problem(test.origin, f"{selection}: {len(rows)} runs of seed {rows['seed'].iloc[0]}: {hint}")


def _check_columns(test: ClaimTest, columns: Iterable[str], path: Path) -> None:
    quantity = test.form.quantity
    for column in quantity.columns:
        if column not in columns:
            hint = did_you_mean(column, columns)
            raise problem(test.origin, f"quantity: {quantity.name}: no column {column} in {path}{hint}")
