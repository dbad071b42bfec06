"""A small picture of a test: the estimate with its interval on a line, and the values that the rule allows."""

import math
import sys
from dataclasses import dataclass
from typing import Literal

from nfrepro.stats.intervals import Bounds, Interval

# The size of the drawing, in units of about a pixel.
WIDTH, HEIGHT = 320.0, 46.0
_MARGIN = 0.16  # room for a label on either side, as a share of the range
_LABEL = 56.0  # if two bounds are closer than this, their labels lie on the outer sides

Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Mark:
    """A bound of the rule."""

    x: float
    label: str
    anchor: Anchor


@dataclass(frozen=True)
class IntervalPicture:
    """The horizontal positions of all parts."""

    low: float
    estimate: float
    high: float
    allowed: tuple[float, float]
    bounds: tuple[Mark, ...]
    text: str  # the same in words, for readers who do not see it


def picture(interval: Interval, bounds: Bounds) -> IntervalPicture | None:
    """The picture of a test; None if a number is not finite or there is no bound to compare it with."""
    values = [interval.low, interval.mean, interval.high, *bounds.ends]
    if not bounds.ends or not all(map(math.isfinite, values)):
        return None
    span = max(values) - min(values) or max(map(abs, values))
    if span < sys.float_info.min:  # a share of it might be 0
        span = 1.0
    left, right = min(values) - _MARGIN * span, max(values) + _MARGIN * span
    if not 0 < right - left < math.inf:
        return None

    def place(value: float) -> float:
        return round(WIDTH * min(1.0, max(0.0, (value - left) / (right - left))), 1)

    ends = [place(end) for end in dict.fromkeys(bounds.ends)]
    near = len(ends) == 2 and ends[1] - ends[0] < _LABEL
    anchors: list[Anchor] = ["end", "start"] if near else ["middle"] * len(ends)
    labels = [f"{end:.6g}" for end in dict.fromkeys(bounds.ends)]
    return IntervalPicture(
        low=place(interval.low),
        estimate=place(interval.mean),
        high=place(interval.high),
        allowed=(place(bounds.low), place(bounds.high)),
        bounds=tuple(map(Mark, ends, labels, anchors)),
        text=f"{interval.mean:.4g}, interval {interval.low:.4g} to {interval.high:.4g}, bound {' and '.join(labels)}",
    )
