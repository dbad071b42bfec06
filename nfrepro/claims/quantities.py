"""All quantities that claims may be about. A new one: a class in one of the two files, and its place in the union."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from nfrepro.claims.measured_run import MeasuredRun, Selections
from nfrepro.claims.number_quantities import (
    Closeness,
    Collapsed,
    CollapsedDifference,
    Contrast,
    FittedDecay,
    NearerInLog,
    Number,
    NumberDifference,
)
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
from nfrepro.options import Options

# They give a value for each run, or for two of the same seed.
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
    """The share of networks for which a quantity lies on one side of a bound: 1 or 0 for each."""

    name: Literal["share_of_networks"]
    of: Annotated[ValueOfRun, Field(discriminator="name")]
    below: float | None = None
    above: float | None = None
    selections: ClassVar[Selections] = "where"
    share: ClassVar[bool] = True  # a share is tested as one, exactly, and not as a mean

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
# They compare arms as wholes.
ArmQuantity = NumberDifference | Contrast | Collapsed | CollapsedDifference

Quantity = Annotated[RunQuantity | ArmQuantity | FittedDecay, Field(discriminator="name")]
