"""The quantities that claims are about: each takes a run, and what it measured, to one number.

A quantity is one class here, with its arguments as fields, and an entry of the union `Quantity`. One that compares is
`paired`: it also takes the run of the same seed that the test is `against`. `columns` are those of runs.csv it reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from nfrepro.errors import InputError
from nfrepro.evidence.propagation_curves import TABLE
from nfrepro.options import Options

Statistic = Literal["avg_sq_mean", "avg_var", "res_var", "input_correlation"]
Blocks = Literal["all", "stage_ends", "transitions"]
Extreme = Literal["largest", "smallest"]

_BLOCKS = {"all": "all blocks", "stage_ends": "stage ends", "transitions": "transition blocks"}


class NoValue(ValueError):
    """A completed run does not have the number that was asked for; the text says why."""


@dataclass(frozen=True)
class MeasuredRun:
    """A completed run: its row of runs.csv and, where it is a probe, its curves."""

    row: Mapping[str, Any]
    folder: Path

    def number(self, column: str) -> float:
        """Raises `NoValue` for a cell that is empty or no finite number."""
        try:
            value = float(self.row[column])
        except (TypeError, ValueError):
            raise NoValue(f"run {self.row['id']}: {column} is {self.row[column]!r}, which is no number") from None
        if not np.isfinite(value):
            raise NoValue(f"run {self.row['id']}: no finite {column}")
        return value

    def curve(self, statistic: str) -> pd.DataFrame:
        """Columns block, stage, transition, measured, a row a block. Raises `InputError` for a damaged file."""
        of = self._long_form
        curve = of[of["statistic"] == statistic].sort_values("block").reset_index(drop=True)
        if curve.empty:
            raise NoValue(f"run {self.row['id']}: no {statistic} in its {TABLE}")
        return curve

    def values(self, statistic: str, at: Blocks = "all") -> NDArray[np.float64]:
        """What was measured of `statistic` at these blocks, in order. Raises `NoValue` for one that is not finite."""
        curve = self.curve(statistic)
        values: NDArray[np.float64] = curve["measured"].to_numpy(float)[_chosen(curve, at)]
        if values.size == 0 or not np.isfinite(values).all():
            raise NoValue(f"run {self.row['id']}: no finite {statistic} at {_BLOCKS[at]}")
        return values

    @cached_property
    def _long_form(self) -> pd.DataFrame:
        path = self.folder / TABLE
        try:
            return pd.read_csv(path)[["block", "stage", "transition", "statistic", "measured"]]
        except FileNotFoundError:
            raise NoValue(f"run {self.row['id']}: no {TABLE}") from None
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: cannot be read ({error}): redo the run with --force") from None


class Number(Options):
    """A number of runs.csv, or its ratio to another column or to a number."""

    name: Literal["number"]
    column: str
    relative_to: str | float | None = None
    paired: ClassVar[bool] = False

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column, self.relative_to) if isinstance(self.relative_to, str) else (self.column,)

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        if self.relative_to is None:
            return run.number(self.column)
        scale = run.number(self.relative_to) if isinstance(self.relative_to, str) else self.relative_to
        if scale == 0:
            raise NoValue(f"run {run.row['id']}: {self.relative_to} is 0")
        return run.number(self.column) / scale

    def __str__(self) -> str:
        return self.column if self.relative_to is None else f"{self.column} / {self.relative_to}"


class OfCurve(Options):
    """What quantities of one curve share: a statistic, or its ratio to another one, at some blocks."""

    statistic: Statistic
    relative_to: Statistic | None = None
    at: Blocks = "all"
    paired: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]] = ()

    def values(self, run: MeasuredRun) -> NDArray[np.float64]:
        values = run.values(self.statistic, self.at)
        if self.relative_to is None:
            return values
        return _ratio(values, run.values(self.relative_to, self.at), run)

    @property
    def shown(self) -> str:
        return self.statistic if self.relative_to is None else f"{self.statistic} / {self.relative_to}"


class CurveExtreme(OfCurve):
    """The largest or the smallest value over blocks."""

    name: Literal["curve_extreme"]
    extreme: Extreme

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        return float(EXTREMES[self.extreme](self.values(run)))

    def __str__(self) -> str:
        return f"{self.extreme} {self.shown}, {_BLOCKS[self.at]}"


class CurveDeviation(OfCurve):
    """The largest |value - target| over blocks, or |value / target - 1|."""

    name: Literal["curve_deviation"]
    target: float
    relative: bool = False

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        difference = np.abs(self.values(run) - self.target)
        return float(difference.max() / abs(self.target) if self.relative else difference.max())

    def __str__(self) -> str:
        difference = f"{self.shown} / {self.target:g} - 1" if self.relative else f"{self.shown} - {self.target:g}"
        return f"largest |{difference}|, {_BLOCKS[self.at]}"


class ShareBelow(OfCurve):
    """The share of blocks where the value is below a bound."""

    name: Literal["share_below"]
    bound: float

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        return float((self.values(run) < self.bound).mean())

    def __str__(self) -> str:
        return f"share of {_BLOCKS[self.at]} with {self.shown} < {self.bound:g}"


class LedgerDeviation(Options):
    """The largest |avg_var / (1 + k alpha^2) - 1| over blocks: the paper's ledger, block k of its stage from 1."""

    name: Literal["ledger_deviation"]
    paired: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]] = ("model.alpha",)

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        place = run.curve("avg_var").groupby("stage").cumcount().to_numpy(float) + 1.0
        expected = 1.0 + place * run.number("model.alpha") ** 2
        return float(np.abs(run.values("avg_var") / expected - 1.0).max())

    def __str__(self) -> str:
        return "largest |avg_var / (1 + k alpha^2) - 1|, all blocks"


class TransitionRatio(Options):
    """The largest ratio of the value right after a transition block to the one before it, from stage 2 on."""

    name: Literal["transition_ratio"]
    statistic: Statistic
    paired: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]] = ()

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        values = run.values(self.statistic)
        after = np.flatnonzero(_chosen(run.curve(self.statistic), "transitions"))
        after = after[after > 0]  # before the first block there is none
        if after.size == 0:
            raise NoValue(f"run {run.row['id']}: no transition block with a block before it")
        return float(_ratio(values[after], values[after - 1], run).max())

    def __str__(self) -> str:
        return f"largest {self.statistic} after / before a transition block"


class Growth(Options):
    """The value after the last block minus that after the first."""

    name: Literal["growth"]
    statistic: Statistic
    paired: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]] = ()

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        values = run.values(self.statistic)
        return float(values[-1] - values[0])

    def __str__(self) -> str:
        return f"{self.statistic}, last block minus first"


class CurveDistance(Options):
    """The largest |value / that of the other run - 1| over blocks."""

    name: Literal["curve_distance"]
    statistic: Statistic
    at: Blocks = "all"
    paired: ClassVar[bool] = True
    columns: ClassVar[tuple[str, ...]] = ()

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        assert other is not None
        values, reference = run.values(self.statistic, self.at), other.values(self.statistic, self.at)
        if len(values) != len(reference):
            raise NoValue(f"runs {run.row['id']} and {other.row['id']} have not the same blocks")
        return float(np.abs(_ratio(values, reference, other) - 1.0).max())

    def __str__(self) -> str:
        return f"largest |{self.statistic} / other's - 1|, {_BLOCKS[self.at]}"


class NumberDifference(Options):
    """A number of runs.csv minus that of the other run."""

    name: Literal["number_difference"]
    column: str
    paired: ClassVar[bool] = True

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        assert other is not None
        return run.number(self.column) - other.number(self.column)

    def __str__(self) -> str:
        return f"{self.column} - other's"


class Closeness(Options):
    """|column - target| minus that of the other run: below 0 where the run is nearer to the target."""

    name: Literal["closeness"]
    column: str
    target: float
    paired: ClassVar[bool] = True

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        assert other is not None
        return abs(run.number(self.column) - self.target) - abs(other.number(self.column) - self.target)

    def __str__(self) -> str:
        return f"|{self.column} - {self.target:g}| - other's"


Quantity = Annotated[
    Number
    | CurveExtreme
    | CurveDeviation
    | ShareBelow
    | LedgerDeviation
    | TransitionRatio
    | Growth
    | CurveDistance
    | NumberDifference
    | Closeness,
    Field(discriminator="name"),
]

EXTREMES = {"largest": np.max, "smallest": np.min}


def _chosen(curve: pd.DataFrame, at: Blocks) -> NDArray[np.bool_]:
    """Which rows of a curve are meant."""
    if at == "transitions":
        chosen: NDArray[np.bool_] = curve["transition"].to_numpy(bool)
        return chosen
    if at == "stage_ends":
        ends = curve.groupby("stage")["block"].transform("max")
        return np.asarray(curve["block"] == ends, dtype=bool)
    return np.ones(len(curve), dtype=bool)


def _ratio(values: NDArray[np.float64], to: NDArray[np.float64], run: MeasuredRun) -> NDArray[np.float64]:
    if (to == 0).any():
        raise NoValue(f"run {run.row['id']}: a ratio to 0")
    return values / to
