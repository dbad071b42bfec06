"""Arms of a training experiment: runs grouped by the factors in which they are meant to differ, and by no other."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from nfrepro.errors import InputError
from nfrepro.plots.paper_values import Level, Reference
from nfrepro.plots.run_counts import RunCounts, count_runs
from nfrepro.stats.intervals import Interval, mean_interval

# Columns of every table of training runs.
NEEDED = ("id", "state", "seed", "data.name", "model.name", "train.epochs", "train.batch_size", "train.precision")


@dataclass(frozen=True)
class Factor:
    """A factor in which arms differ."""

    name: str  # heading of its column, and label of its axis
    columns: tuple[str, ...]  # of runs.csv that determine it
    level: Callable[[pd.Series], Level]  # its level in a row of runs.csv
    order: tuple[Level, ...] = ()  # these levels first, others as in the table; numbers are sorted by size
    scale: Literal["category", "linear", "logarithmic"] = "category"
    also: tuple[str, ...] = ()  # columns that may differ along with it
    measured: bool = False  # levels are measurements: ticks at round numbers, not at every level

    def sorted(self, levels: Sequence[Level]) -> list[Level]:
        """Each of `levels` once, in the order of tables, axes and legends."""
        different = list(dict.fromkeys(levels))
        if self.scale != "category":
            return sorted(different, key=float)
        return sorted(different, key=lambda level: self.order.index(level) if level in self.order else len(self.order))

    def text(self, level: Level) -> str:
        return level if isinstance(level, str) else f"{level:g}"


def named(name: str, column: str, names: Mapping[Any, str]) -> Factor:
    """A factor whose levels are the values of `column` under their `names`; the key None names blanks."""

    def level(row: pd.Series) -> str:
        value = None if pd.isna(row[column]) else row[column]
        return names.get(value, str(value))

    return Factor(name, (column,), level, tuple(dict.fromkeys(names.values())))


def number(
    name: str, column: str, scale: Literal["linear", "logarithmic"] = "logarithmic", also: tuple[str, ...] = ()
) -> Factor:
    """A factor whose levels are the numbers in `column`."""
    return Factor(name, (column,), lambda row: float(row[column]), scale=scale, also=also)


@dataclass(frozen=True)
class Comparison:
    """The subject of a table and a figure: top-1 against `axis`, a line per level of `line`, a panel per `panel`."""

    title: str
    axis: Factor
    line: Factor | None = None
    panel: Factor | None = None
    references: Sequence[Reference] = ()
    without_references: str = "No number of the paper is known for this."
    remark: str = ""  # ends the table's note
    marked: tuple[float, str] | None = None  # a place on the axis, and its label

    @property
    def factors(self) -> list[Factor]:
        return [factor for factor in (self.panel, self.axis, self.line) if factor is not None]

    @property
    def chosen(self) -> set[str]:
        """The columns in which arms may differ."""
        return {column for factor in self.factors for column in (*factor.columns, *factor.also)}


@dataclass(frozen=True)
class Arm:
    """All runs with the same levels."""

    key: tuple[Level, ...]  # a level for each factor that the comparison has of panel, axis and line
    ids: tuple[str, ...]
    values: tuple[float, ...]  # top-1 of the completed runs, in percent
    counts: RunCounts

    @property
    def top1(self) -> Interval:
        return mean_interval(self.values)


def read_arms(comparison: Comparison, table: pd.DataFrame, where: str) -> list[Arm]:
    """The arms in the order of the table's rows: by panel, axis, line. Runs without a number are counted, not dropped.

    Raises `InputError`, which begins with `where`, for a missing column, for runs that differ in a column of the config
    which no factor names (precision, data, epochs, an option of another schema), and for a seed that occurs twice.
    """
    check_comparable(comparison, table, where)
    keys = [_key(comparison, row, where) for _, row in table.iterrows()]
    rows: dict[tuple[Level, ...], list[int]] = {}
    for index, key in enumerate(keys):
        rows.setdefault(key, []).append(index)
    levels = [factor.sorted([key[n] for key in keys]) for n, factor in enumerate(comparison.factors)]
    in_order = sorted(rows, key=lambda key: [of.index(level) for of, level in zip(levels, key, strict=True)])
    return [_arm(comparison, key, table.iloc[rows[key]], where) for key in in_order]


def check_comparable(comparison: Comparison, table: pd.DataFrame, where: str) -> None:
    """Raises `InputError` if runs differ in an option that no factor of `comparison` names."""
    if table.empty:
        raise InputError(f"{where}: it contains no runs")
    needed = [*NEEDED, *(name for factor in comparison.factors for name in factor.columns)]
    if (table["state"] == "completed").any():
        needed.append("top1")
    for column in needed:
        if column not in table:
            raise InputError(f"{where}: column {column} is missing: run `nfrepro collect` again")
    for name in map(str, table):
        if name in comparison.chosen or not name.startswith(("data.", "model.", "train.")):
            continue
        # Families have options of their own, so networks are compared within each.
        groups = [runs for _, runs in table.groupby("model.name")] if name.startswith("model.") else [table]
        for runs in groups:
            found = sorted("blank" if pd.isna(value) else str(value) for value in runs[name].unique())
            if len(found) > 1:
                raise InputError(
                    f"{where}: runs that differ in {name} ({', '.join(found)}) cannot be compared: "
                    f"{name} is not a factor of the comparison"
                )


def _key(comparison: Comparison, row: pd.Series, where: str) -> tuple[Level, ...]:
    key = []
    for factor in comparison.factors:
        try:
            level = factor.level(row)
        except (TypeError, ValueError):
            level = math.nan
        if not isinstance(level, str) and not math.isfinite(level):
            raise InputError(f"{where}: run {row['id']} has no number in {factor.columns[0]}")
        key.append(level)
    return tuple(key)


def _arm(comparison: Comparison, key: tuple[Level, ...], runs: pd.DataFrame, where: str) -> Arm:
    seeds = runs["seed"].tolist()
    if len(set(seeds)) < len(seeds):
        arm = ", ".join(factor.text(level) for factor, level in zip(comparison.factors, key, strict=True))
        raise InputError(f"{where}: seed {max(seeds, key=seeds.count)} appears twice in arm {arm}")
    completed = runs[runs["state"] == "completed"]
    for name, value in zip(completed["id"], completed.get("top1", ()), strict=True):
        if not math.isfinite(value):
            raise InputError(f"{where}: run {name} is completed, but top1 is blank: redo it with --force '{name}'")
    values = tuple(float(value) for value in completed.get("top1", ()))
    return Arm(key, tuple(runs["id"]), values, count_runs(runs["state"]))


def setting(comparison: Comparison, table: pd.DataFrame, scale: str) -> str:
    """The setting of all runs in words: options that are equal in all of them and not compared."""
    common: dict[str, Any] = {
        name: table[name].dropna().iloc[0]
        for name in map(str, table)
        if name not in comparison.chosen and table[name].nunique() == 1
    }
    images = f" ({common['data.train_images']:,.0f} training images)" if "data.train_images" in common else ""
    data = f"{common.get('provenance.data', common.get('data.name', 'data'))}{images}"
    shown = {
        "model.name": "{}",
        "model.depth": "{:g} layers",
        "model.width": "width {:g}",
        "data.name": data,
        "train.epochs": "epochs: {:g}",
        "train.batch_size": "batch {:g}",
        "train.precision": "{}",
    }
    return ", ".join([*(text.format(common[name]) for name, text in shown.items() if name in common), f"scale {scale}"])
