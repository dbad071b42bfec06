"""Proportions: their intervals, and counts of runs as samples (a share, or the difference of two)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import stats

from nfrepro.stats.intervals import Bounds, Interval
from nfrepro.stats.samples import CONFIDENCE, PValues


@dataclass(frozen=True)
class Count:
    """`hits` of `n` runs."""

    hits: int
    n: int

    @property
    def share(self) -> float:
        return self.hits / self.n

    def __str__(self) -> str:
        return f"{self.hits} of {self.n}"


@dataclass(frozen=True)
class ShareSample:
    """The share of runs, tested against bounds by exact binomial tests."""

    bounds: Bounds
    count: Count
    exact: ClassVar[bool] = False
    test: ClassVar[str] = "exact binomial test"

    def p_values(self) -> PValues:
        return _binomial_p(self.count, self.bounds)

    def interval(self) -> Interval:
        low, high = clopper_pearson(self.count.hits, self.count.n, CONFIDENCE)
        return Interval(self.count.share, low, high, self.count.n, "95 % Clopper-Pearson interval over runs")


@dataclass(frozen=True)
class ShareDifference:
    """The share of some runs minus that of others, tested against 0 by Barnard's exact test (1947, pooled).

    Seeds are treated as independent. `bounds` has one end: above 0, or below 0.
    """

    bounds: Bounds
    count: Count
    other: Count
    exact: ClassVar[bool] = False
    test: ClassVar[str] = "Barnard's exact test"

    def p_values(self) -> PValues:
        greater, less = self._p("greater"), self._p("less")
        return PValues(greater, less) if math.isfinite(self.bounds.low) else PValues(less, greater)

    def interval(self) -> Interval:
        """An exact but wide interval from both shares' Clopper-Pearson intervals, jointly valid in 95 % of cases."""
        confidence = 1 - (1 - CONFIDENCE) / 2
        low, high = clopper_pearson(self.count.hits, self.count.n, confidence)
        other_low, other_high = clopper_pearson(self.other.hits, self.other.n, confidence)
        n, method = min(self.count.n, self.other.n), "95 % interval from two Clopper-Pearson intervals"
        return Interval(self.count.share - self.other.share, low - other_high, high - other_low, n, method)

    def _p(self, alternative: str) -> float:
        if self.count.hits * self.other.n == self.other.hits * self.count.n:
            return 1.0
        hits = [self.count.hits, self.other.hits]
        table = [hits, [self.count.n - self.count.hits, self.other.n - self.other.hits]]
        return float(np.clip(stats.barnard_exact(table, alternative=alternative).pvalue, 0.0, 1.0))


def _binomial_p(count: Count, bounds: Bounds) -> PValues:
    """P-values as for a mean: outside, the larger of the bounds; inside, the smaller times the number of bounds."""
    outside, inside = [], []
    for bound, far, near in ((bounds.low, "greater", "less"), (bounds.high, "less", "greater")):
        if math.isfinite(bound):
            outside.append(stats.binomtest(count.hits, count.n, bound, alternative=far).pvalue)
            inside.append(stats.binomtest(count.hits, count.n, bound, alternative=near).pvalue)
    return PValues(float(max(outside)), float(min(1.0, bounds.count * min(inside))))


def wilson_interval(hits: int, n: int, level: float = 0.95) -> Interval:
    """`hits` of `n` in percent, with Wilson's score interval (Wilson 1927): inside 0..100 even at 0 or `n` hits.

    It covers only the random choice of the `n` images, not that of the training. Raises `ValueError` if the counts are
    invalid.
    """
    _check_counts(hits, n)
    found = stats.binomtest(hits, n).proportion_ci(level, method="wilson")
    low, high = 100 * float(found.low), 100 * float(found.high)
    return Interval(100 * hits / n, low, high, n, f"{100 * level:g} % Wilson score interval over images")


def exact_interval(hits: int, n: int, level: float = 0.95) -> Interval:
    """`hits` of `n` runs in percent, with the exact interval of Clopper and Pearson (1934), as needed for few runs.

    Its coverage is at least `level` for every `n`. Raises `ValueError` if the counts are invalid.
    """
    _check_counts(hits, n)
    low, high = clopper_pearson(hits, n, level)
    return Interval(100 * hits / n, 100 * low, 100 * high, n, f"{100 * level:g} % exact binomial interval over seeds")


def clopper_pearson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share (Clopper and Pearson 1934), as shares; its coverage is at least `level`."""
    found = stats.binomtest(hits, n).proportion_ci(level, method="exact")
    return float(found.low), float(found.high)


def _check_counts(hits: int, n: int) -> None:
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"{hits} hits of {n} are not a proportion")
