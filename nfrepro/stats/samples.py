"""What a test has to go by, and what chance leaves of it: means over seeds, and the best of several.

Every sample answers the same questions. Its two p-values are those of "outside the bounds", which has to be rejected
for a test to be supported, and of "inside", which has to be rejected for it to be contradicted. Counts of runs are in
`shares.py`.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Protocol

import numpy as np
from scipy import special

from nfrepro.stats.bounds import Bounds
from nfrepro.stats.intervals import Interval

POWER = 0.8
MOST_SEEDS = 10_000
CONFIDENCE = 0.95
# Values that differ by less, relative to their size, are the same number computed twice.
_ROUNDING = 1e-12
_NO_SPREAD = 1e-150  # the square of less is no number


@dataclass(frozen=True)
class PValues:
    """Of the two hypotheses that a verdict rejects."""

    outside: float
    inside: float


class Sample(Protocol):
    """The runs of one test, reduced to what its verdict needs."""

    @property
    def bounds(self) -> Bounds:
        """What the rule allows."""

    @property
    def exact(self) -> bool:
        """Whether chance has no part in it: every seed gave the same."""

    @property
    def test(self) -> str:
        """Name of the statistical test."""

    def p_values(self) -> PValues:
        """Without spread there is no doubt: 0 and 1."""

    def interval(self) -> Interval:
        """Estimate and plain 95 % interval."""

    def seeds_needed(self, level: float) -> int | None:
        """Seeds an arm that settle it 4 times in 5 at that level, all being as observed; None above `MOST_SEEDS`."""


@dataclass(frozen=True)
class Missing:
    """A test without runs to go by, and why."""

    reason: str


@dataclass(frozen=True)
class Term:
    """The values of one arm, one a seed (two or more), and the weight of their mean."""

    weight: float
    values: tuple[float, ...]

    @cached_property
    def variance(self) -> float:
        """Of one value times the weight."""
        return 0.0 if is_exact(self.values) else float(self.weight**2 * np.var(self.values, ddof=1))


@dataclass(frozen=True)
class MeanSample:
    """A weighted sum of the means of arms that share nothing, by Welch's t test; of one arm Student's t test.

    Arms that are paired by seed are one arm here, that of their sums seed by seed. Two bounds are two one-sided tests
    (Schuirmann 1987): outside is rejected by the larger p-value, inside by the smaller, doubled, since chance may leave
    the interval on either side.
    """

    bounds: Bounds
    terms: tuple[Term, ...]

    @classmethod
    def of(cls, values: Sequence[float], bounds: Bounds) -> "MeanSample":
        """Of one value a seed."""
        return cls(bounds, (Term(1.0, tuple(values)),))

    @property
    def n(self) -> int:
        """Seeds of the smallest arm."""
        return min(len(term.values) for term in self.terms)

    @property
    def exact(self) -> bool:
        return all(term.variance == 0 for term in self.terms)

    @property
    def test(self) -> str:
        return "t test" if len(self.terms) == 1 else "Welch's t test"

    @cached_property
    def estimate(self) -> float:
        return float(sum(term.weight * np.mean(term.values) for term in self.terms))

    def p_values(self) -> PValues:
        if self.exact:
            return PValues(0.0, 1.0) if self._holds_exactly() else PValues(1.0, 0.0)
        t = min(self.estimate - self.bounds.low, self.bounds.high - self.estimate) / self._error  # negative outside
        outside, one_side = (float(special.stdtr(self._freedom, value)) for value in (-t, t))
        return PValues(outside, min(1.0, self.bounds.count * one_side))

    def interval(self) -> Interval:
        return self.interval_at(CONFIDENCE)

    def interval_at(self, confidence: float) -> Interval:
        name = "Student t" if len(self.terms) == 1 else "Welch t"
        method = f"{100 * confidence:g} % {name} interval over seeds"
        half = 0.0 if self.exact else float(special.stdtrit(self._freedom, 0.5 + confidence / 2)) * self._error
        return Interval(self.estimate, self.estimate - half, self.estimate + half, self.n, method)

    def seeds_needed(self, level: float) -> int | None:
        """The least n whose one-sided t tests at `level` all succeed with probability 0.8, by central t distributions.

        Supported needs a test against each bound, contradicted one against the bound that is left.
        """
        inside = self.estimate in self.bounds
        distances = [abs(self.estimate - end) for end in self.bounds.ends]
        if not inside:
            distances, level = [min(distances)], level / self.bounds.count
        variances = np.array([term.variance for term in self.terms])
        arms = 1 / ((variances / variances.sum()) ** 2).sum()  # as many as count, by their variances

        def settles(n: int) -> bool:
            freedom, error = (n - 1) * arms, math.sqrt(variances.sum() / n)
            critical = -special.stdtrit(freedom, level)
            misses = [special.stdtr(freedom, critical - distance / error) for distance in distances]
            return bool(1 - sum(misses) >= POWER)

        return least(settles)

    @property
    def _error(self) -> float:
        return math.sqrt(sum(term.variance / len(term.values) for term in self.terms))

    @property
    def _freedom(self) -> float:
        """Welch's and Satterthwaite's degrees of freedom; n - 1 of a single arm."""
        shares = [term.variance / len(term.values) / self._error**2 for term in self.terms]
        return 1 / sum(share**2 / (len(term.values) - 1) for share, term in zip(shares, self.terms, strict=True))

    def _holds_exactly(self) -> bool:
        if len(self.terms) == 1 and self.terms[0].weight == 1:
            return self.bounds.hold(self.terms[0].values)
        return self.estimate in self.bounds


@dataclass(frozen=True)
class BestSample:
    """The best mean of some arms minus the best of others: row i, column j compares arm i of these with arm j of those.

    Which arm is best is not known, so choosing one costs: "some arm is better than all the others'" is tested for each
    arm by the worst of its pairs, and the best of these is multiplied by the number of arms (Bonferroni).
    """

    pairs: tuple[tuple[MeanSample, ...], ...]

    @property
    def bounds(self) -> Bounds:
        return self.pairs[0][0].bounds

    @property
    def exact(self) -> bool:
        return all(pair.exact for row in self.pairs for pair in row)

    @property
    def test(self) -> str:
        return f"{self.pairs[0][0].test} of each of {len(self.pairs)} against each of {len(self.pairs[0])}"

    def p_values(self) -> PValues:
        found = [[pair.p_values() for pair in row] for row in self.pairs]
        outside = min(max(p.outside for p in row) for row in found)
        inside = min(max(p.inside for p in column) for column in zip(*found, strict=True))
        return PValues(min(1.0, len(self.pairs) * outside), min(1.0, len(self.pairs[0]) * inside))

    def interval(self) -> Interval:
        """Holds whichever arms are best, since the intervals of all pairs hold together."""
        confidence = 1 - (1 - CONFIDENCE) / (len(self.pairs) * len(self.pairs[0]))
        found = [[pair.interval_at(confidence) for pair in row] for row in self.pairs]
        mean = max(min(pair.mean for pair in row) for row in found)
        low = max(min(pair.low for pair in row) for row in found)
        high = min(max(pair.high for pair in column) for column in zip(*found, strict=True))
        n = min(pair.n for row in found for pair in row)
        return Interval(mean, low, high, n, "95 % interval of the difference of the best, from all pairs")

    def seeds_needed(self, level: float) -> int | None:
        """As many as the hardest pair of the arm that is shown to be best needs, of these or of those."""
        supported = self.interval().mean in self.bounds
        candidates = self.pairs if supported else tuple(zip(*self.pairs, strict=True))
        clear = [row for row in candidates if all((pair.estimate in self.bounds) == supported for pair in row)]
        found = [[pair.seeds_needed(level / len(candidates)) for pair in row] for row in clear]
        settled = [max(n for n in row if n is not None) for row in found if None not in row]
        return min(settled, default=None)


def paired(arms: Sequence[Sequence[float]], weights: Sequence[float], bounds: Bounds) -> MeanSample:
    """Of arms whose values belong together seed by seed: their weighted sums."""
    return MeanSample.of([sum(map(lambda w, v: w * v, weights, values)) for values in zip(*arms, strict=True)], bounds)


def best(
    arms: Sequence[Sequence[float]], others: Sequence[Sequence[float]], bounds: Bounds, by_seed: bool
) -> BestSample:
    """The arms compared with the others, all pairs of them."""

    def pair(arm: Sequence[float], other: Sequence[float]) -> MeanSample:
        if by_seed:
            return paired((arm, other), (1, -1), bounds)
        return MeanSample(bounds, (Term(1, tuple(arm)), Term(-1, tuple(other))))

    pairs = [pair(arm, other) for arm, other in product(arms, others)]
    width = len(others)
    return BestSample(tuple(tuple(pairs[start : start + width]) for start in range(0, len(pairs), width)))


def is_exact(values: Sequence[float]) -> bool:
    """Whether all seeds gave the same number."""
    return bool(np.std(values) <= max(_ROUNDING * max(map(abs, values)), _NO_SPREAD))


def least(settles: Callable[[int], bool]) -> int | None:
    """The least number of seeds, from 2, that is enough; None above `MOST_SEEDS`. More must never be too many."""
    n = bisect_left(range(MOST_SEEDS + 1), True, lo=2, key=settles)
    return n if n <= MOST_SEEDS else None
