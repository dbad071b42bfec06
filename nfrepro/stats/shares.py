"""Counts of runs as samples: the share of runs that did something, and the difference of two such shares."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import stats

from nfrepro.stats.bounds import Bounds
from nfrepro.stats.intervals import Interval
from nfrepro.stats.proportions import clopper_pearson
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
    """The share of runs against bounds, by exact binomial tests."""

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
    """The share of some runs minus that of others, against 0, by Barnard's exact test (1947, pooled).

    Seeds count as independent. Bounds: 0 or above, 0 or below, or 0 itself, which no number of runs can support.
    """

    bounds: Bounds
    count: Count
    other: Count
    exact: ClassVar[bool] = False
    test: ClassVar[str] = "Barnard's exact test"

    def p_values(self) -> PValues:
        if self.bounds.count == 2:
            return PValues(1.0, min(1.0, 2 * min(self._p("greater"), self._p("less"))))
        greater, less = self._p("greater"), self._p("less")
        return PValues(greater, less) if math.isfinite(self.bounds.low) else PValues(less, greater)

    def interval(self) -> Interval:
        """From the Clopper-Pearson interval of each share, which hold together in 95 % of cases: exact, and wide."""
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
    """One-sided p-values as of a mean: the larger of the bounds outside; the smaller, times their number, inside."""
    outside, inside = [], []
    for bound, far, near in ((bounds.low, "greater", "less"), (bounds.high, "less", "greater")):
        if math.isfinite(bound):
            outside.append(stats.binomtest(count.hits, count.n, bound, alternative=far).pvalue)
            inside.append(stats.binomtest(count.hits, count.n, bound, alternative=near).pvalue)
    return PValues(float(max(outside)), float(min(1.0, bounds.count * min(inside))))
