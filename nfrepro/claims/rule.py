"""The rule: from the p-values of a claim's tests to its verdict, within the one list of all claims.

A claim that holds if all its tests do is an intersection-union test: "it does not hold" is rejected by the largest of
their p-values, each of which has to be small; "it holds" is rejected by the smallest, times their number (Bonferroni).
For a claim that holds if any test does, the two are swapped.

Claims are looked at as seeds come in. Each of the two lists of p-values goes through Holm's procedure over claims with
group-sequential levels (Maurer and Bretz 2013) at half of 5 %: in 95 % of cases no verdict of the list is wrong by
chance, however many of the planned looks took place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nfrepro.claims.claim import Verdict
from nfrepro.stats.intervals import Interval
from nfrepro.stats.samples import Missing, PValues, Sample
from nfrepro.stats.sequential import Step, conditional_power, holm_with_looks, nominal_levels

FAMILYWISE_RATE = 0.05
# From this look on, no seeds are added if the claim is unlikely to be decided either way.
FUTILE_POWER = 0.1
FUTILE_FROM_LOOK = 2

# The reason why an inconclusive claim takes no more seeds; open: it does.
Ending = Literal["", "open", "final", "stopped for futility"]
HoldsIf = Literal["all", "any"]

_NOTHING = PValues(1.0, 1.0)


@dataclass(frozen=True)
class Course:
    """The p-values of a claim at its looks so far, and its planned looks (numbers of seeds)."""

    p_values: tuple[PValues, ...]
    looks: tuple[int, ...]


@dataclass(frozen=True)
class Ruling:
    """The outcome for a claim in the two lists."""

    support: Step
    contradiction: Step
    ending: Ending
    last: int  # index of the last look so far; -1: none

    @property
    def verdict(self) -> Verdict:
        if self.support.rejected:
            return "supported"
        return "contradicted" if self.contradiction.rejected else "inconclusive"

    @property
    def look(self) -> int:
        """Index of the look that decided, or of the last one so far; -1 before the first."""
        crossed = self.support.look if self.support.rejected else self.contradiction.look
        return self.last if crossed is None else crossed


@dataclass(frozen=True)
class Decision:
    """The verdict on one test, and all that it rests on."""

    verdict: Verdict
    interval: Interval | None  # the plain 95 % interval; None if not run
    p: float | None  # of the hypothesis to reject, times the tests that share the level; None if exact
    level: float | None  # the level that p had to reach
    method: str


def p_of_claim(samples: Sequence[Sample | Missing], holds_if: HoldsIf) -> PValues:
    """The p-values of a claim from its tests: `outside` of "it does not hold", `inside` of "it holds"."""
    found = [_NOTHING if isinstance(sample, Missing) else sample.p_values() for sample in samples]
    if not found:
        return _NOTHING
    outside, inside = [p.outside for p in found], [p.inside for p in found]
    if holds_if == "any":
        return PValues(min(1.0, len(found) * min(outside)), max(inside))
    return PValues(max(outside), min(1.0, len(found) * min(inside)))


def rule(courses: Sequence[Course]) -> list[Ruling]:
    """The rulings on all claims of the list. Those without data stay in it, so that fewer runs loosen nothing."""
    looks, rate = [course.looks for course in courses], FAMILYWISE_RATE / 2
    supports = holm_with_looks([[p.outside for p in course.p_values] for course in courses], looks, rate)
    contradictions = holm_with_looks([[p.inside for p in course.p_values] for course in courses], looks, rate)
    return [
        Ruling(support, contradiction, _ending(course, support, contradiction), len(course.p_values) - 1)
        for course, support, contradiction in zip(courses, supports, contradictions, strict=True)
    ]


def decide_test(sample: Sample | Missing, ruling: Ruling, tests: int, holds_if: HoldsIf) -> Decision:
    """The verdict on one of the `tests` tests of a claim, at the levels that the claim had to reach."""
    if isinstance(sample, Missing):
        return not_run(sample.reason)
    interval = sample.interval()
    if sample.exact:
        verdict: Verdict = "supported" if sample.p_values().outside == 0 else "contradicted"
        return Decision(verdict, interval, None, None, "exact: by the value of every seed")
    inside, p = interval.mean in sample.bounds, sample.p_values()
    step, p_value = (ruling.support, p.outside) if inside else (ruling.contradiction, p.inside)
    shared = inside == (holds_if == "any")  # one test is enough, so that each gets its share of the level
    p_value = min(1.0, tests * p_value) if shared else p_value
    decided: Verdict = "supported" if inside else "contradicted"
    verdict = decided if p_value <= step.level else "inconclusive"
    return Decision(verdict, interval, p_value, step.level, f"{interval.method}; {sample.test}")


def not_run(reason: str) -> Decision:
    """The decision on a test without usable runs."""
    return Decision("not run", None, None, None, reason)


def combine(verdicts: Sequence[Verdict], holds_if: HoldsIf) -> Verdict:
    """The verdict on a claim from those on its exact tests; without tests, not run."""
    order: tuple[Verdict, ...] = ("contradicted", "not run", "supported")
    for verdict in order if holds_if == "all" else order[::-1]:
        if verdict in verdicts:
            return verdict
    return "not run"


def _ending(course: Course, support: Step, contradiction: Step) -> Ending:
    """The ending of a claim that is looked at several times."""
    if support.rejected or contradiction.rejected or len(course.looks) < 2:
        return ""
    had = len(course.p_values)
    if had == len(course.looks):
        return "final"
    if had == 0:
        return "open"
    fraction = course.looks[had - 1] / course.looks[-1]
    last = course.p_values[-1]
    hopes = (
        conditional_power(p, fraction, nominal_levels(step.rate, course.looks)[-1])
        for p, step in ((last.outside, support), (last.inside, contradiction))
    )
    return "stopped for futility" if had >= FUTILE_FROM_LOOK and max(hopes) < FUTILE_POWER else "open"
