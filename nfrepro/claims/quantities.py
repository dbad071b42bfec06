"""All quantities that claims may be about. A new one: a class in one of the two files, and its place in the union."""

from typing import Annotated

from pydantic import Field

from nfrepro.claims.number_quantities import (
    BestDifference,
    Closeness,
    Collapsed,
    CollapsedDifference,
    Contrast,
    FittedDecay,
    Number,
    NumberDifference,
)
from nfrepro.claims.signal_quantities import (
    CurveDeviation,
    CurveDistance,
    CurveExtreme,
    Growth,
    LedgerDeviation,
    ShareBelow,
    TransitionRatio,
)

# They give a value for each run, or for two of the same seed.
RunQuantity = (
    Number
    | Closeness
    | CurveExtreme
    | CurveDeviation
    | ShareBelow
    | LedgerDeviation
    | TransitionRatio
    | Growth
    | CurveDistance
)
# They compare arms as wholes.
ArmQuantity = NumberDifference | Contrast | BestDifference | Collapsed | CollapsedDifference

Quantity = Annotated[RunQuantity | ArmQuantity | FittedDecay, Field(discriminator="name")]
