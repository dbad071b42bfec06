"""Verdicts on tests: is the mean of a quantity inside the bounds that a rule allows? Rules are fixed before the runs.

Inside or outside, with few seeds, is decided by one-sided t tests against the bounds. With a single test of one bound
this is the same as asking whether the 95 % t interval lies wholly inside the rule or wholly outside.

All tests on the runs of one experiment are a family: in 95 % of cases not one of its verdicts may be wrong by chance.
`supported` means that "outside the rule" is rejected: p is the larger of the two one-sided ones (Schuirmann 1987).
`contradicted` means that "inside the rule" is rejected: p is the smaller one, doubled where the rule has two bounds,
since chance may leave it on either side. Each list of p-values is taken through Holm's procedure (1979) at half of 5 %,
which holds however the tests on the same runs depend on one another; the two halves add up to 5 %.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from nfrepro.evidence.statistics import Interval, mean_interval

Verdict = Literal["supported", "contradicted", "inconclusive", "not run"]

FAMILYWISE_RATE = 0.05
POWER = 0.8
MOST_SEEDS = 10_000
# Values that differ by less, relative to their size, are the same number computed twice.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Bounds:
    """What a rule allows, bounds included; infinite where there is none."""

    low: float = -math.inf
    high: float = math.inf

    @property
    def count(self) -> int:
        return math.isfinite(self.low) + math.isfinite(self.high)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def hold(self, values: Sequence[float]) -> bool:
        return all(value in self for value in values)

    def distance(self, value: float) -> float:
        """To the nearest bound."""
        return min(abs(value - self.low), abs(value - self.high))


@dataclass(frozen=True)
class Sample:
    """What a test has to go by: a value a seed (two or more of them), or the reason why there is none."""

    bounds: Bounds
    values: tuple[float, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Decision:
    """The verdict on one test, and all that it rests on."""

    verdict: Verdict
    interval: Interval | None  # the plain 95 % one; None where not run
    p: float | None  # the smaller of the two of the docstring above
    level: float | None  # that p had to reach
    seeds_needed: int | None  # to settle an inconclusive test; None where more than MOST_SEEDS
    method: str


def decide(family: Sequence[Sample]) -> list[Decision]:
    """The verdicts on all tests of a family. Those that were not run count as well: more runs loosen no verdict."""
    p_values = [evidence(sample) for sample in family]
    supports = holm([p_outside for p_outside, _ in p_values], FAMILYWISE_RATE / 2)
    contradicts = holm([p_inside for _, p_inside in p_values], FAMILYWISE_RATE / 2)
    return [
        _decision(sample, p, support, contradict, len(family))
        for sample, p, support, contradict in zip(family, p_values, supports, contradicts, strict=True)
    ]


def evidence(sample: Sample) -> tuple[float, float]:
    """p of "the mean is outside the bounds", p of "it is inside". Values without spread leave no doubt: 0 and 1."""
    bounds, values = sample.bounds, sample.values
    if sample.reason:
        return 1.0, 1.0
    mean = float(np.mean(values))
    if is_exact(values):
        return (0.0, 1.0) if bounds.hold(values) else (1.0, 0.0)
    n = len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    t = min(mean - bounds.low, bounds.high - mean) / error  # negative outside
    p_outside, p_one_side = float(special.stdtr(n - 1, -t)), float(special.stdtr(n - 1, t))
    return p_outside, min(1.0, bounds.count * p_one_side)


def is_exact(values: Sequence[float]) -> bool:
    """Whether all seeds gave the same number."""
    return bool(np.std(values) <= _ROUNDING * max(map(abs, values)))


@dataclass(frozen=True)
class Step:
    """What Holm's procedure says on one p-value."""

    rejected: bool
    level: float  # that the p-value was compared with


def holm(p_values: Sequence[float], rate: float) -> list[Step]:
    """Holm's procedure: the smallest p-value against rate / m, the next against rate / (m - 1), …, until one fails."""
    steps: dict[int, Step] = {}
    rejecting, level = True, rate
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if rejecting:
            level = rate / (len(p_values) - rank)
            rejecting = p_values[index] <= level
        steps[index] = Step(rejecting, level)
    return [steps[index] for index in range(len(p_values))]


def seeds_needed(values: Sequence[float], bounds: Bounds, level: float) -> int | None:
    """Seeds with which a one-sided t test at `level` would tell the mean from the nearest bound 4 times in 5.

    Takes mean and standard deviation to be as observed: the least n with (t(1 - level) + t(0.8)) s / sqrt(n) not above
    the distance. None where that is more than MOST_SEEDS.
    """
    distance, spread = bounds.distance(float(np.mean(values))), float(np.std(values, ddof=1))

    def settles(n: int) -> bool:
        reach = special.stdtrit(n - 1, POWER) - special.stdtrit(n - 1, level)
        return bool(reach * spread / math.sqrt(n) <= distance)

    n = bisect_left(range(MOST_SEEDS + 1), True, lo=2, key=settles)
    return n if n <= MOST_SEEDS else None


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a claim, from those of its tests: it holds only if all do."""
    for verdict in ("contradicted", "inconclusive", "not run"):
        if verdict in verdicts:
            return verdict
    return "supported"


def _decision(sample: Sample, p: tuple[float, float], support: Step, contradict: Step, tests: int) -> Decision:
    if sample.reason:
        return Decision("not run", None, None, None, None, sample.reason)
    interval = mean_interval(sample.values)
    if is_exact(sample.values):
        verdict: Verdict = "supported" if sample.bounds.hold(sample.values) else "contradicted"
        return Decision(verdict, interval, None, None, None, "exact: the same value with every seed")
    inside = interval.mean in sample.bounds
    step, p_value = (support, p[0]) if inside else (contradict, p[1])
    method = f"{interval.method}; t test, Holm's level among {tests} test{'' if tests == 1 else 's'}"
    if step.rejected:
        return Decision("supported" if inside else "contradicted", interval, p_value, step.level, None, method)
    one_sided = step.level if inside else step.level / sample.bounds.count
    needed = seeds_needed(sample.values, sample.bounds, one_sided)
    return Decision("inconclusive", interval, p_value, step.level, needed, method)
