"""Verdicts on tests: is the mean of a quantity inside the bounds that a rule allows? Rules are fixed before the runs.

Inside or outside, with few seeds, is decided by one-sided tests against the bounds. With a single test of one bound on
a mean this is the same as asking whether the 95 % t interval lies wholly inside the rule or wholly outside.

All tests on the runs of one experiment are a family: in 95 % of cases not one of its verdicts may be wrong by chance.
Each of the two lists of p-values (`samples.py`) is taken through Holm's procedure (1979) at half of 5 %, which holds
however the tests on the same runs depend on one another; the two halves add up to 5 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nfrepro.stats.intervals import Interval
from nfrepro.stats.samples import Missing, PValues, Sample

Verdict = Literal["supported", "contradicted", "inconclusive", "not run"]

FAMILYWISE_RATE = 0.05


@dataclass(frozen=True)
class Decision:
    """The verdict on one test, and all that it rests on."""

    verdict: Verdict
    interval: Interval | None  # the plain 95 % one; None where not run
    p: float | None  # of what the verdict rejects, or would have to
    level: float | None  # that p had to reach
    seeds_needed: int | None  # to settle an inconclusive test; None where more than MOST_SEEDS
    method: str


def not_run(reason: str) -> Decision:
    """A test without runs to go by."""
    return Decision("not run", None, None, None, None, reason)


def decide(family: Sequence[Sample | Missing]) -> list[Decision]:
    """The verdicts on all tests of a family. Those that were not run count as well: more runs loosen no verdict."""
    p_values = [PValues(1.0, 1.0) if isinstance(sample, Missing) else sample.p_values() for sample in family]
    supports = holm([p.outside for p in p_values], FAMILYWISE_RATE / 2)
    contradicts = holm([p.inside for p in p_values], FAMILYWISE_RATE / 2)
    return [
        not_run(sample.reason)
        if isinstance(sample, Missing)
        else _decision(sample, p, support, contradict, len(family))
        for sample, p, support, contradict in zip(family, p_values, supports, contradicts, strict=True)
    ]


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


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a claim, from those of its tests: it holds only if all do. Without tests it was not run."""
    for verdict in ("contradicted", "inconclusive", "not run"):
        if verdict in verdicts:
            return verdict
    return "supported" if verdicts else "not run"


def _decision(sample: Sample, p: PValues, support: Step, contradict: Step, tests: int) -> Decision:
    interval = sample.interval()
    if sample.exact:
        verdict: Verdict = "supported" if p.outside == 0 else "contradicted"
        return Decision(verdict, interval, None, None, None, "exact: the same value with every seed")
    inside = interval.mean in sample.bounds
    step, p_value = (support, p.outside) if inside else (contradict, p.inside)
    method = f"{interval.method}; {sample.test}, Holm's level among {tests} test{'' if tests == 1 else 's'}"
    if step.rejected:
        return Decision("supported" if inside else "contradicted", interval, p_value, step.level, None, method)
    return Decision("inconclusive", interval, p_value, step.level, sample.seeds_needed(step.level), method)
