"""Per-seed samples and their tests: means over seeds.

All samples have the same interface. Their two p-values are those of "outside the bounds", which has to be rejected for
a test to be supported, and of "inside", which has to be rejected for it to be contradicted. Counts of runs are in
`proportions.py`.

A t test alone cannot be trusted with the accuracies of a few seeds: some start late or diverge, and an arm whose seeds
all diverged has no spread at all. So the difference of two arms has to pass a permutation test as well if runs diverged
or there are enough seeds for one (five per arm have 252 divisions, so p cannot be below 1 / 252), and an arm without
spread is assumed to vary as much as the one that varies most.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy import special

from nfrepro.stats.intervals import Bounds, Interval
from nfrepro.stats.permutation import permutation_p

CONFIDENCE = 0.95
# Values that differ by less, relative to their size, are the same number computed twice.
_ROUNDING = 1e-12
_NO_SPREAD = 1e-150  # the square of a smaller number underflows
# Welch's degrees of freedom are an approximation that is too liberal far out in the tails, where a list of claims is
# tested: with spreads of 1 : 3, lists are wrong in 3.4 % of cases instead of 2.5 %; with nine tenths of them, in 2.5 %
# (bench calibration).
_WELCH = 0.9
# Eight seeds per arm have 12,870.
_ENOUGH_DIVISIONS = 10_000


@dataclass(frozen=True)
class PValues:
    """P-values of the two hypotheses that a verdict can reject."""

    outside: float
    inside: float


class Sample(Protocol):
    """The runs of one test, reduced to what its verdict needs."""

    @property
    def bounds(self) -> Bounds:
        """The bounds that the rule sets."""

    @property
    def exact(self) -> bool:
        """Whether chance plays no part: the runs are of a deterministic task, and every value decides."""

    @property
    def test(self) -> str:
        """Name of the statistical test."""

    def p_values(self) -> PValues:
        """The two p-values; 0 and 1 if the sample is exact."""

    def interval(self) -> Interval:
        """Estimate and plain 95 % interval."""


@dataclass(frozen=True)
class Missing:
    """A test without runs to decide it, and the reason."""

    reason: str


@dataclass(frozen=True)
class Term:
    """The values of one arm, one per seed (two or more), and the weight of their mean."""

    weight: float
    values: tuple[float, ...]

    @cached_property
    def variance(self) -> float:
        """The variance of one value times the weight."""
        return 0.0 if is_exact(self.values) else float(self.weight**2 * np.var(self.values, ddof=1))


@dataclass(frozen=True)
class MeanSample:
    """A weighted sum of the means of independent arms, by Welch's t test; for one arm, by Student's t test.

    Arms that are paired by seed form one arm here, that of their sums seed by seed. Two bounds mean two one-sided tests
    (Schuirmann 1987): outside is rejected by the larger p-value, inside by the smaller one, doubled, since the mean may
    leave the interval on either side by chance.
    """

    bounds: Bounds
    terms: tuple[Term, ...]
    exact: bool = False
    has_diverged: bool = False  # whether the values include the top-1 of guessing, for a run that diverged

    @classmethod
    def of(cls, values: Sequence[float], bounds: Bounds, exact: bool = False) -> "MeanSample":
        """The sample of one value per seed."""
        return cls(bounds, (Term(1.0, tuple(values)),), exact)

    @property
    def n(self) -> int:
        """The number of seeds of the smallest arm."""
        return min(len(term.values) for term in self.terms)

    @property
    def test(self) -> str:
        if len(self.terms) == 1:
            return "t test"
        return "Welch's t test and permutation test" if self._permutes else "Welch's t test"

    @cached_property
    def estimate(self) -> float:
        return float(sum(term.weight * np.mean(term.values) for term in self.terms))

    def p_values(self) -> PValues:
        if self.exact:
            return PValues(0.0, 1.0) if self._holds_exactly() else PValues(1.0, 0.0)
        low, high = self.bounds.low, self.bounds.high
        above = [self._p_above(low, +1)] if math.isfinite(low) else []
        below = [self._p_above(high, -1)] if math.isfinite(high) else []
        outside = max(p for p, _ in above + below)
        one_side = min(p for _, p in above + below)
        return PValues(outside, min(1.0, self.bounds.count * one_side))

    def _p_above(self, end: float, sign: int) -> tuple[float, float]:
        """The p-values of "not beyond `end`" and of "beyond it", in the direction of `sign`."""
        distance = sign * (self.estimate - end)
        if self._error > 0:
            t = distance / self._error
            beyond, short = (float(special.stdtr(self._freedom, value)) for value in (-t, t))
        else:
            beyond, short = self._p_without_spread(distance)
        if self._permutes:
            first, second = (term.values for term in self.terms)
            others = (second, first) if sign * self.terms[0].weight < 0 else (first, second)
            shift = sign * end / abs(self.terms[0].weight)
            beyond = max(beyond, permutation_p(others[0], others[1], shift))
            short = max(short, permutation_p(others[1], others[0], -shift))
        return beyond, short

    def _p_without_spread(self, distance: float) -> tuple[float, float]:
        """The p-values of a sign test: each of n equal values could as well lie on the other side of the bound."""
        if abs(distance) <= _ROUNDING * max(abs(self.estimate), _NO_SPREAD):
            return 1.0, 1.0
        p = 0.5**self.n
        return (p, 1.0) if distance > 0 else (1.0, p)

    def interval(self) -> Interval:
        name = "Student t" if len(self.terms) == 1 else "Welch t"
        method = f"{100 * CONFIDENCE:g} % {name} interval over seeds"
        half = float(special.stdtrit(self._freedom, 0.5 + CONFIDENCE / 2)) * self._error if self._error > 0 else 0.0
        return Interval(self.estimate, self.estimate - half, self.estimate + half, self.n, method)

    @property
    def _permutes(self) -> bool:
        """Whether a permutation test applies: two arms of opposite weights, and a diverged run or enough divisions."""
        if len(self.terms) != 2 or self.terms[0].weight != -self.terms[1].weight:
            return False
        sizes = [len(term.values) for term in self.terms]
        return self.has_diverged or math.comb(sum(sizes), sizes[0]) >= _ENOUGH_DIVISIONS

    @cached_property
    def _variances(self) -> list[float]:
        """The variances of the arms' weighted values; for an arm without spread, the largest one of all arms."""
        most = max(term.variance for term in self.terms)
        return [term.variance or most for term in self.terms]

    @cached_property
    def _error(self) -> float:
        return math.sqrt(sum(v / len(term.values) for v, term in zip(self._variances, self.terms, strict=True)))

    @cached_property
    def _freedom(self) -> float:
        """The degrees of freedom: n - 1 for one arm, else nine tenths of Welch-Satterthwaite's, at least n - 1."""
        least = min(len(term.values) for term in self.terms) - 1
        if len(self.terms) == 1:
            return float(least)
        shares = [v / len(term.values) / self._error**2 for v, term in zip(self._variances, self.terms, strict=True)]
        approximate = 1 / sum(share**2 / (len(term.values) - 1) for share, term in zip(shares, self.terms, strict=True))
        return max(float(least), _WELCH * approximate)

    def _holds_exactly(self) -> bool:
        if len(self.terms) == 1 and self.terms[0].weight == 1:
            return self.bounds.hold(self.terms[0].values)
        return self.estimate in self.bounds


def paired(
    arms: Sequence[Sequence[float]], weights: Sequence[float], bounds: Bounds, exact: bool = False
) -> MeanSample:
    """The sample of arms whose values are paired seed by seed: their weighted sums."""
    sums = [sum(map(lambda w, v: w * v, weights, values)) for values in zip(*arms, strict=True)]
    return MeanSample.of(sums, bounds, exact)


def is_exact(values: Sequence[float]) -> bool:
    """Whether all seeds gave the same number."""
    return bool(np.std(values) <= max(_ROUNDING * max(map(abs, values)), _NO_SPREAD))
