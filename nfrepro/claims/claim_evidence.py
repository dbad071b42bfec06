"""The evidence for a claim at a scale: the looks that its runs allow, and its controls."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nfrepro.claims.claim import Claim, ClaimTest, Control
from nfrepro.claims.evidence import Evidence, gather
from nfrepro.claims.rule import Course, p_of_claim
from nfrepro.claims.runs import ResultTable, read_results, split
from nfrepro.stats.intervals import Interval
from nfrepro.stats.samples import Missing, PValues

# A scale without planned looks has one, at all its seeds.
ONE_LOOK = (1,)


@dataclass(frozen=True)
class Look:
    """The evidence for each of a claim's tests from the same number of seeds; None: from all."""

    n: int | None
    evidence: tuple[tuple[ClaimTest, Evidence], ...]

    @property
    def pending(self) -> bool:
        """Whether runs are still missing for it."""
        return any(evidence.pending for _, evidence in self.evidence)

    def p_values(self, claim: Claim) -> PValues:
        return p_of_claim([evidence.sample for _, evidence in self.evidence], claim.form.holds_if)


@dataclass(frozen=True)
class ControlReading:
    """The reading of a control: whether it holds, by its estimate; None if its runs are missing."""

    control: Control
    evidence: Evidence

    @cached_property
    def interval(self) -> Interval | None:
        sample = self.evidence.sample
        return None if isinstance(sample, Missing) else sample.interval()

    @property
    def holds(self) -> bool | None:
        return None if self.interval is None else self.interval.mean in self.control.test.form.rule.bounds

    def __str__(self) -> str:
        form, test = self.control.form, self.control.test.form
        if self.interval is None:
            assert isinstance(self.evidence.sample, Missing)
            return f"{form.statement} Not known: {self.evidence.sample.reason}"
        asked = f"{test.quantity} {test.rule}"
        return f"{form.statement} ({asked}: {self.interval.mean:.4g}, n = {self.interval.n})"

    def report(self) -> dict[str, Any]:
        """The reading as JSON."""
        return {
            "name": self.control.name,
            "statement": self.control.form.statement,
            "testable_if": self.control.form.testable_if,
            "holds": self.holds,
            "rule": str(self.control.test.form.rule),
            **numbers_of(self.interval),
        }


@dataclass(frozen=True)
class ClaimEvidence:
    """All evidence for a claim at a scale: its looks up to and including the first pending one, and its controls."""

    claim: Claim
    scale: str
    planned: tuple[int, ...]  # looks; empty: one, at all seeds
    looks: tuple[Look, ...]  # one or more
    controls: tuple[ControlReading, ...]

    @property
    def had(self) -> tuple[Look, ...]:
        """The looks whose runs are complete; without planned looks the only one, complete or not."""
        return tuple(look for look in self.looks if not look.pending) if self.planned else self.looks

    @property
    def applies(self) -> bool:
        return bool(self.claim.tests_at(self.scale))

    @property
    def exact(self) -> bool:
        """Whether all its tests are of deterministic tasks."""
        tests = self.claim.tests_at(self.scale)
        return bool(tests) and all(test.exact for test in tests)

    @property
    def failed(self) -> tuple[ControlReading, ...]:
        return tuple(reading for reading in self.controls if reading.holds is False)

    @property
    def unknown(self) -> tuple[ControlReading, ...]:
        return tuple(reading for reading in self.controls if reading.holds is None)

    @property
    def tested(self) -> bool:
        """Whether the claim can be judged: every test has a sample, and every control holds."""
        if not self.had or not self.applies or self.failed or self.unknown:
            return False
        return not any(isinstance(evidence.sample, Missing) for _, evidence in self.had[-1].evidence)

    @property
    def begun(self) -> bool:
        """Whether there are runs for any of its tests."""
        return any(evidence.arms for look in self.looks for _, evidence in look.evidence)

    def course(self) -> Course:
        """The claim's entry in the list of all claims; one that cannot be judged stays in it, without p-values."""
        judged = not (self.exact or self.failed or self.unknown)
        p_values = tuple(look.p_values(self.claim) for look in self.had) if judged and self.applies else ()
        return Course(p_values, self.planned or ONE_LOOK)


def gather_all(claims: Sequence[Claim], results: Path, scale: str) -> list[ClaimEvidence]:
    """The evidence for each claim at a scale."""
    tables: dict[str, ResultTable] = {}

    def table(test: ClaimTest) -> ResultTable:
        name = test.form.experiment
        if name not in tables:
            tables[name] = read_results(results, name, scale)
        return tables[name]

    def controls(claim: Claim, seeds: int | None) -> tuple[ControlReading, ...]:
        return tuple(
            ControlReading(control, gather(control.test, table(control.test), seeds))
            for control in claim.controls_at(scale)
        )

    def look(claim: Claim, seeds: int | None) -> Look:
        parts = [(part, table(test)) for test in claim.tests_at(scale) for part in split(test, table(test).rows)]
        return Look(seeds, tuple((part, gather(part, of, seeds)) for part, of in parts))

    def evidence(claim: Claim) -> ClaimEvidence:
        planned = claim.looks.get(scale, ()) if claim.tests_at(scale) else ()
        looks = []
        for seeds in planned or (None,):
            looks.append(look(claim, seeds))
            if looks[-1].pending:
                break
        # Controls are judged once, at the first look, before any test.
        return ClaimEvidence(claim, scale, planned, tuple(looks), controls(claim, planned[0] if planned else None))

    return [evidence(claim) for claim in claims]


def best_evidence(readings: Sequence[ClaimEvidence]) -> ClaimEvidence:
    """The evidence at the largest scale that can test the claim, or else has runs for it, or else tests."""
    larger_first = readings[::-1]
    for is_it in (_tested, _begun, _applies):
        if found := next(filter(is_it, larger_first), None):
            return found
    return readings[0]


def _tested(evidence: ClaimEvidence) -> bool:
    return evidence.tested


def _begun(evidence: ClaimEvidence) -> bool:
    return evidence.begun


def _applies(evidence: ClaimEvidence) -> bool:
    return evidence.applies


def numbers_of(interval: Interval | None) -> dict[str, Any]:
    """Estimate, 95 % interval and n; without runs None, None and 0."""
    if interval is None:
        return {"estimate": None, "interval": None, "n": 0}
    return {"estimate": interval.mean, "interval": [interval.low, interval.high], "n": interval.n}
