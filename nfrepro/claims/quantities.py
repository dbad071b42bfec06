"""All quantities that claims may be about. Here are those of numbers in runs.csv: for a run, for two that share a
seed, for the arms of a comparison; those of signal propagation are in `signal_quantities.py`.

Each quantity is a class with its arguments as fields, and is listed in a union below. `columns` are the columns of
runs.csv that it reads. Quantities of arms have no value for a single run: `evidence.py` makes samples of them.
"""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from nfrepro.claims.measured_run import MeasuredRun, NoValue, Selections
from nfrepro.claims.signal_quantities import (
    CurveAverage,
    CurveDeviation,
    CurveDistance,
    CurveExtreme,
    CurveShapeDistance,
    Growth,
    LedgerDeviation,
    PredictionDistance,
    StageLine,
    TransitionRatio,
)
from nfrepro.errors import InputError
from nfrepro.options import Options
from nfrepro.stats.decay import Law, fit_decay


class Number(Options):
    """A number in runs.csv, or its ratio to another column or to a number, or its excess over another column."""

    name: Literal["number"]
    column: str
    relative_to: str | float | None = None
    minus: str | None = None
    selections: ClassVar[Selections] = "where"

    @model_validator(mode="after")
    def _is_a_ratio_or_a_difference(self) -> Self:
        if self.relative_to is not None and self.minus is not None:
            raise ValueError("number takes relative_to or minus, not both")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column, *(other for other in (self.relative_to, self.minus) if isinstance(other, str)))

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        if self.minus is not None:
            return run.number(self.column) - run.number(self.minus)
        if self.relative_to is None:
            return run.number(self.column)
        scale = run.number(self.relative_to) if isinstance(self.relative_to, str) else self.relative_to
        if scale == 0:
            raise NoValue(f"run {run.row['id']}: {self.relative_to} is 0")
        return run.number(self.column) / scale

    def __str__(self) -> str:
        if self.minus is not None:
            return f"{self.column} - {self.minus}"
        return self.column if self.relative_to is None else f"{self.column} / {self.relative_to}"


class NearerInLog(Options):
    """|log(column / target)| - |log(than / target)|: below 0 if `column` is closer, as a factor."""

    name: Literal["nearer_in_log"]
    column: str
    than: str
    target: float = Field(gt=0)
    selections: ClassVar[Selections] = "where"

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column, self.than)

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        near, far = (self._distance(run, column) for column in self.columns)
        return near - far

    def _distance(self, run: MeasuredRun, column: str) -> float:
        if (number := run.number(column)) <= 0:
            raise NoValue(f"run {run.row['id']}: {column} is {number:g}, which has no logarithm")
        return abs(math.log(number / self.target))

    def __str__(self) -> str:
        return f"|log({self.column} / {self.target:g})| - |log({self.than} / {self.target:g})|"


class Closeness(Options):
    """|column - target| minus that of the other run: below 0 if the run is closer to the target."""

    name: Literal["closeness"]
    column: str
    target: float
    selections: ClassVar[Selections] = "two"

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        assert other is not None
        return abs(run.number(self.column) - self.target) - abs(other.number(self.column) - self.target)

    def __str__(self) -> str:
        return f"|{self.column} - {self.target:g}| - other's"


class FittedDecay(Options):
    """The decay of a number along an option, over all runs of a seed: its rate under a law, or how well the law fits.

    rate: the factor per unit of the option (exponential), or minus the exponent (power); fit_gain: R squared of the
    straight line through the logarithm minus that of the other law. The first number of at most `least` and all after
    it are left out.
    """

    name: Literal["decay"]
    column: str
    along: str
    law: Law
    measure: Literal["rate", "fit_gain"] = "rate"
    least: float = Field(default=0.0, ge=0)
    selections: ClassVar[Selections] = "where"

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column, self.along)

    def value(self, runs: Sequence[MeasuredRun]) -> float:
        x, y = ([run.number(column) for run in runs] for column in (self.along, self.column))
        other: Law = "power" if self.law == "exponential" else "exponential"
        try:
            fit = fit_decay(x, y, self.law, self.least)
            return fit.rate if self.measure == "rate" else fit.r_squared - fit_decay(x, y, other, self.least).r_squared
        except InputError as error:
            raise NoValue(f"{self.column} of seed {runs[0].row['seed']}: {error}") from None

    def __str__(self) -> str:
        if self.measure == "fit_gain":
            return f"R squared of {self.column} by a law that is {self.law} in {self.along} - by the other law"
        rate = f"factor of {self.column} for each" if self.law == "exponential" else f"-exponent of {self.column} in"
        return f"{rate} {self.along}"


class NumberDifference(Options):
    """The mean of a number in runs.csv minus that of the runs to compare with."""

    name: Literal["number_difference"]
    column: str
    selections: ClassVar[Selections] = "two"

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def weights(self) -> dict[str, float]:
        return {"where": 1.0, "against": -1.0}

    def __str__(self) -> str:
        return f"{self.column} - others'"


class Contrast(Options):
    """The weighted sum of the means of a number in runs.csv over several arms."""

    name: Literal["contrast"]
    column: str
    weights: Annotated[dict[str, float], Field(min_length=2)]
    selections: ClassVar[Selections] = "arms"

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def __str__(self) -> str:
        signed = [f"{'-' if weight < 0 else '+'} {_factor(weight)}{arm}" for arm, weight in self.weights.items()]
        return f"{self.column} of {' '.join(signed).removeprefix('+ ')}"


# A run collapsed if it ended with a top-1 of at most this many times that of guessing.
CHANCE_LEVELS = 2.0


class OfCollapse(Options):
    """Base of shares of collapsed runs, which diverged or ended with at most `chance_levels` times guessing's top-1."""

    chance_levels: float = Field(default=CHANCE_LEVELS, ge=1)
    columns: ClassVar[tuple[str, ...]] = ("top1",)


class Collapsed(OfCollapse):
    """The share of runs that collapsed."""

    name: Literal["collapsed"]
    selections: ClassVar[Selections] = "where"

    def __str__(self) -> str:
        return "share of collapsed runs"


class CollapsedDifference(OfCollapse):
    """The share of runs that collapsed minus that of the runs to compare with."""

    name: Literal["collapsed_difference"]
    selections: ClassVar[Selections] = "two"

    def __str__(self) -> str:
        return "share of collapsed runs - others'"


# Quantities with a value for each run, or for two runs of the same seed.
ValueOfRun = (
    Number
    | NearerInLog
    | Closeness
    | CurveExtreme
    | CurveAverage
    | CurveDeviation
    | LedgerDeviation
    | TransitionRatio
    | Growth
    | StageLine
    | CurveDistance
    | CurveShapeDistance
    | PredictionDistance
)


class ShareOfNetworks(Options):
    """The share of networks for which a quantity lies on one side of a bound; each counts as 1 or 0."""

    name: Literal["share_of_networks"]
    of: Annotated[ValueOfRun, Field(discriminator="name")]
    below: float | None = None
    above: float | None = None
    selections: ClassVar[Selections] = "where"
    share: ClassVar[bool] = True  # tested exactly, as a share and not as a mean

    @model_validator(mode="after")
    def _has_one_bound_and_one_selection(self) -> Self:
        if (self.below is None) == (self.above is None):
            raise ValueError("share_of_networks needs below or above")
        if self.of.selections != "where":
            raise ValueError(f"share_of_networks is of a quantity of one run, and {self.of.name} compares two")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        return self.of.columns

    def value(self, run: MeasuredRun, other: MeasuredRun | None) -> float:
        value = self.of.value(run, None)
        return float(value < self.below if self.below is not None else value > (self.above or 0.0))

    def __str__(self) -> str:
        bound = f"< {self.below:g}" if self.below is not None else f"> {self.above:g}"
        return f"share of networks with {self.of} {bound}"


RunQuantity = ValueOfRun | ShareOfNetworks
# Quantities that compare whole arms.
ArmQuantity = NumberDifference | Contrast | Collapsed | CollapsedDifference

Quantity = Annotated[RunQuantity | ArmQuantity | FittedDecay, Field(discriminator="name")]


def _factor(weight: float) -> str:
    return "" if abs(weight) == 1 else f"{abs(weight):g} "
