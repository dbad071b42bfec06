"""The quantities of claims about signal propagation: each takes a run, and what it measured, to one number.

A quantity is one class, with its arguments as fields. One that compares takes the run of the same seed that the test is
`against` as well. `columns` are those of runs.csv that it reads.
"""

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from nfrepro.claims.measured_run import BLOCKS, EXTREMES, Blocks, Extreme, MeasuredRun, NoValue, Selections, chosen
from nfrepro.options import Options

Statistic = Literal["avg_sq_mean", "avg_var", "res_var", "input_correlation"]


class OfCurve(Options):
    """What quantities of one curve share: a statistic, or its ratio to another one, at some blocks."""

    statistic: Statistic
    relative_to: Statistic | None = None
    at: Blocks = "all"
    selections: ClassVar[Selections] = "where"
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
        return f"{self.extreme} {self.shown}, {BLOCKS[self.at]}"


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
        return f"largest |{difference}|, {BLOCKS[self.at]}"


class ShareBelow(OfCurve):
    """The share of blocks where the value is below a bound."""

    name: Literal["share_below"]
    bound: float

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        return float((self.values(run) < self.bound).mean())

    def __str__(self) -> str:
        return f"share of {BLOCKS[self.at]} with {self.shown} < {self.bound:g}"


class LedgerDeviation(Options):
    """The largest |avg_var / (1 + k alpha^2) - 1| over blocks: the paper's ledger, block k of its stage from 1."""

    name: Literal["ledger_deviation"]
    selections: ClassVar[Selections] = "where"
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
    selections: ClassVar[Selections] = "where"
    columns: ClassVar[tuple[str, ...]] = ()

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        values = run.values(self.statistic)
        after = np.flatnonzero(chosen(run.curve(self.statistic), "transitions"))
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
    selections: ClassVar[Selections] = "where"
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
    selections: ClassVar[Selections] = "two"
    columns: ClassVar[tuple[str, ...]] = ()

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        assert other is not None
        values, reference = run.values(self.statistic, self.at), other.values(self.statistic, self.at)
        if len(values) != len(reference):
            raise NoValue(f"runs {run.row['id']} and {other.row['id']} have not the same blocks")
        return float(np.abs(_ratio(values, reference, other) - 1.0).max())

    def __str__(self) -> str:
        return f"largest |{self.statistic} / other's - 1|, {BLOCKS[self.at]}"


def _ratio(values: NDArray[np.float64], to: NDArray[np.float64], run: MeasuredRun) -> NDArray[np.float64]:
    if (to == 0).any():
        raise NoValue(f"run {run.row['id']}: a ratio to 0")
    return values / to
