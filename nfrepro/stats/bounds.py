"""Bounds: the values that a rule allows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """An interval, infinite where there is no bound. Bounds are included unless it says otherwise."""

    low: float = -math.inf
    high: float = math.inf
    low_included: bool = True
    high_included: bool = True

    @property
    def ends(self) -> list[float]:
        """The bounds that there are."""
        return [end for end in (self.low, self.high) if math.isfinite(end)]

    @property
    def count(self) -> int:
        return len(self.ends)

    def __contains__(self, value: float) -> bool:
        above = self.low <= value if self.low_included else self.low < value
        below = value <= self.high if self.high_included else value < self.high
        return above and below

    def hold(self, values: Sequence[float]) -> bool:
        return all(value in self for value in values)

    def reversed(self) -> "Bounds":
        """For the quantity with the other sign."""
        return Bounds(-self.high, -self.low, self.high_included, self.low_included)
