"""The quantities of claims about signal propagation: each reduces the measurements of a run to one number.

Each quantity is a class with its arguments as fields. One that compares also takes the run of the same seed that
`against` selects. `columns` are the columns of runs.csv that it reads.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nfrepro.claims.measured_run import (
    EXTREMES,
    Blocks,
    Extreme,
    MeasuredRun,
    NoValue,
    Selections,
    blocks_text,
    chosen,
)
from nfrepro.options import Options

Statistic = Literal["avg_sq_mean", "avg_var", "res_var", "input_correlation"]


class AtBlocks(Options):
    """Base of the quantities at chosen blocks, which read no column of runs.csv."""

    at: Blocks = "all"
    stages: Annotated[tuple[int, ...], Field(strict=False, min_length=1)] | None = None  # from 1; None: all
    columns: ClassVar[tuple[str, ...]] = ()

    @property
    def blocks(self) -> str:
        return blocks_text(self.at, self.stages)


class OfCurve(AtBlocks):
    """Base of the quantities of one curve: a statistic, or its ratio to another one, at some blocks."""

    statistic: Statistic
    relative_to: Statistic | None = None
    selections: ClassVar[Selections] = "where"

    def values(self, run: MeasuredRun) -> NDArray[np.float64]:
        values = run.values(self.statistic, self.at, self.stages)
        if self.relative_to is None:
            return values
        return _ratio(values, run.values(self.relative_to, self.at, self.stages), run)

    @property
    def shown(self) -> str:
        return self.statistic if self.relative_to is None else f"{self.statistic} / {self.relative_to}"


class CurveAverage(OfCurve):
    """The mean or the median over blocks, which no single odd block decides."""

    name: Literal["curve_average"]
    average: Literal["mean", "median"]

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        return float((np.mean if self.average == "mean" else np.median)(self.values(run)))

    def __str__(self) -> str:
        return f"{self.average} {self.shown}, {self.blocks}"


class CurveExtreme(OfCurve):
    """The largest or the smallest value over blocks."""

    name: Literal["curve_extreme"]
    extreme: Extreme

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        return float(EXTREMES[self.extreme](self.values(run)))

    def __str__(self) -> str:
        return f"{self.extreme} {self.shown}, {self.blocks}"


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
        return f"largest |{difference}|, {self.blocks}"


class LedgerDeviation(Options):
    """The largest |avg_var / (1 + k alpha^2) - 1| over blocks: the paper's ledger, with k from 1 in each stage."""

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
        after = after[after > 0]  # the first block has none before it
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


class StageLine(Options):
    """A least-squares line through a statistic against the block, in each stage of three blocks or more.

    r_squared: how well it fits; slope: its growth per block. The value is the smallest over stages.
    """

    name: Literal["stage_line"]
    statistic: Statistic
    measure: Literal["r_squared", "slope"]
    selections: ClassVar[Selections] = "where"
    columns: ClassVar[tuple[str, ...]] = ()

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        run.values(self.statistic)  # refuses values that are not finite
        stages = [stage for _, stage in run.curve(self.statistic).groupby("stage") if len(stage) >= 3]
        if not stages:
            raise NoValue(f"run {run.row['id']}: no stage has three blocks")
        return min(self._of_line(stage["block"].to_numpy(float), stage["measured"].to_numpy(float)) for stage in stages)

    def _of_line(self, blocks: NDArray[np.float64], values: NDArray[np.float64]) -> float:
        slope, start = np.polyfit(blocks, values, 1)
        if self.measure == "slope":
            return float(slope)
        spread = ((values - values.mean()) ** 2).sum()
        return 1.0 - float(((values - start - slope * blocks) ** 2).sum() / spread) if spread > 0 else 0.0

    def __str__(self) -> str:
        what = "R squared" if self.measure == "r_squared" else "slope"
        return f"least {what} of a line through {self.statistic} in a stage"


class OfTwoCurves(AtBlocks):
    """Base of the quantities that compare a run's curve with that of the other run."""

    statistic: Statistic
    selections: ClassVar[Selections] = "two"

    def ratios(self, run: MeasuredRun, other: MeasuredRun | None) -> NDArray[np.float64]:
        assert other is not None
        values, reference = (of.values(self.statistic, self.at, self.stages) for of in (run, other))
        if len(values) != len(reference):
            raise NoValue(f"runs {run.row['id']} and {other.row['id']} have not the same blocks")
        return _ratio(values, reference, other)


class CurveDistance(OfTwoCurves):
    """The largest |value / that of the other run - 1| over blocks."""

    name: Literal["curve_distance"]

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        return float(np.abs(self.ratios(run, other) - 1.0).max())

    def __str__(self) -> str:
        return f"largest |{self.statistic} / other's - 1|, {self.blocks}"


class CurveShapeDistance(OfTwoCurves):
    """The largest deviation of log(value / that of the other run) from its mean over blocks.

    0 for curves that differ by a constant factor: the trend is the same, whatever the level.
    """

    name: Literal["curve_shape_distance"]

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        ratios = self.ratios(run, other)
        if not (ratios > 0).all():
            raise NoValue(f"run {run.row['id']}: {self.statistic} has no logarithm")
        logs = np.log(ratios)
        return float(np.abs(logs - logs.mean()).max())

    def __str__(self) -> str:
        return f"largest |log({self.statistic} / other's) - its mean|, {self.blocks}"


class PredictionDistance(AtBlocks):
    """The largest |measured / predicted - 1| over blocks, by the theory with zero padding (signal/prediction)."""

    name: Literal["prediction_distance"]
    statistic: Statistic
    selections: ClassVar[Selections] = "where"

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        measured = run.values(self.statistic, self.at, self.stages)
        predicted = run.values(self.statistic, self.at, self.stages, "predicted")
        return float(np.abs(_ratio(measured, predicted, run) - 1.0).max())

    def __str__(self) -> str:
        return f"largest |{self.statistic} / prediction - 1|, {self.blocks}"


def _ratio(values: NDArray[np.float64], to: NDArray[np.float64], run: MeasuredRun) -> NDArray[np.float64]:
    if (to == 0).any():
        raise NoValue(f"run {run.row['id']}: a ratio to 0")
    return values / to
