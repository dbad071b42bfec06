"""The distance of a claim's number from the bound of its rule, on a scale that all claims share."""

import math
from dataclasses import dataclass

from nfrepro.stats.intervals import Bounds, Interval

# Distance from the bound, in half widths of the interval, beyond which a mark is drawn at the edge.
FARTHEST = 30.0
# Size in pixels of the strip on which an effect is drawn, with the bound in the middle.
STRIP_WIDTH, STRIP_HEIGHT = 130.0, 14.0
_MARGIN = 6.0  # so that a mark at the edge is drawn whole


@dataclass(frozen=True)
class Effect:
    """An estimate with its interval, as distances from the nearest bound: positive if the rule holds.

    The unit is half the width of the 95 % interval: an interval reaches from 1 below to 1 above its estimate, and
    contains 0 if it crosses the bound. A number without an interval, since it is exact or the same in every run, is
    drawn at the edge.
    """

    estimate: float
    low: float
    high: float

    @property
    def marks(self) -> tuple[float, float, float]:
        """The positions of low, estimate and high on the strip, in pixels from its left edge."""
        return strip_place(self.low), strip_place(self.estimate), strip_place(self.high)

    @property
    def text(self) -> str:
        """The effect in words, for readers who do not see the strip."""
        if math.isinf(self.estimate):
            return f"{'within' if self.estimate > 0 else 'outside'} the rule, without an interval"
        side = "within" if self.estimate >= 0 else "outside"
        return f"{side} the rule by {abs(self.estimate):.1f} half-widths of its interval"


def effect(interval: Interval, bounds: Bounds) -> Effect | None:
    """The distance from the nearest of `bounds`; None if a number is not finite or there is no bound."""
    values = (interval.low, interval.mean, interval.high)
    if not bounds.ends or not all(map(math.isfinite, values)):
        return None
    half = (interval.high - interval.low) / 2
    if half <= 0:
        far = math.inf if interval.mean in bounds else -math.inf
        return Effect(far, far, far)
    from_low, from_high = interval.mean - bounds.low, bounds.high - interval.mean
    if from_low <= from_high:
        return Effect(*(float((value - bounds.low) / half) for value in (interval.mean, interval.low, interval.high)))
    return Effect(*(float((bounds.high - value) / half) for value in (interval.mean, interval.high, interval.low)))


def strip_place(distance: float) -> float:
    """The position on the strip of a distance from the bound: linear near it, logarithmic farther out (asinh)."""
    share = math.asinh(min(max(distance, -FARTHEST), FARTHEST)) / math.asinh(FARTHEST)
    return round(STRIP_WIDTH / 2 + share * (STRIP_WIDTH / 2 - _MARGIN), 1)
