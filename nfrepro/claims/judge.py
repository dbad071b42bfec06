"""The verdicts on claims, from stored results: what a report needs to show of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nfrepro.claims.claim import Claim, ClaimTest, Control, Explanation, Verdict
from nfrepro.claims.evidence import ArmRuns, Evidence, gather
from nfrepro.claims.runs import ResultTable, read_results, readable, split
from nfrepro.claims.verdict import (
    Course,
    Decision,
    Ending,
    Ruling,
    combine,
    decide_test,
    not_run,
    p_of_claim,
    rule,
)
from nfrepro.stats.intervals import Interval
from nfrepro.stats.samples import Missing, PValues

# Of a scale without planned looks: one, of all the seeds that there are.
_ONE_LOOK = (1,)


@dataclass(frozen=True)
class Look:
    """The evidence for each of a claim's tests from the same number of seeds; None: from all."""

    n: int | None
    evidence: tuple[tuple[ClaimTest, Evidence], ...]

    @property
    def pending(self) -> bool:
        """Whether runs have still to be done for it."""
        return any(evidence.pending for _, evidence in self.evidence)

    def p_values(self, claim: Claim) -> PValues:
        return p_of_claim([evidence.sample for _, evidence in self.evidence], claim.form.holds_if)


@dataclass(frozen=True)
class ControlReading:
    """What the runs say to a control: whether it holds, by its estimate. None: its runs are not there."""

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
        """As JSON."""
        return {
            "name": self.control.name,
            "statement": self.control.form.statement,
            "testable_if": self.control.form.testable_if,
            "holds": self.holds,
            "rule": str(self.control.test.form.rule),
            **_numbers(self.interval),
        }


@dataclass(frozen=True)
class ClaimEvidence:
    """All that the runs of a scale have to say to a claim: its looks up to the first that is pending, and controls."""

    claim: Claim
    scale: str
    planned: tuple[int, ...]  # looks; empty: one, of all seeds
    looks: tuple[Look, ...]  # one or more
    controls: tuple[ControlReading, ...]

    @property
    def had(self) -> tuple[Look, ...]:
        """The looks whose runs are there; a scale without planned looks is taken as it is."""
        return tuple(look for look in self.looks if not look.pending) if self.planned else self.looks

    @property
    def applies(self) -> bool:
        return bool(self.claim.tests_at(self.scale))

    @property
    def exact(self) -> bool:
        """Whether chance has no part in any of its tests."""
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
        """Whether the claim can be judged on it: every test has a sample, and every control holds."""
        if not self.had or not self.applies or self.failed or self.unknown:
            return False
        return not any(isinstance(evidence.sample, Missing) for _, evidence in self.had[-1].evidence)

    @property
    def begun(self) -> bool:
        """Whether there are runs for any of its tests."""
        return any(evidence.arms for look in self.looks for _, evidence in look.evidence)

    def course(self) -> Course:
        """Its place in the list of all claims. One that cannot be judged stays in it, and takes nothing."""
        judged = not (self.exact or self.failed or self.unknown)
        p_values = tuple(look.p_values(self.claim) for look in self.had) if judged and self.applies else ()
        return Course(p_values, self.planned or _ONE_LOOK)


@dataclass(frozen=True)
class Answer:
    """What the runs say to one test."""

    test: ClaimTest
    scale: str
    evidence: Evidence
    decision: Decision

    @property
    def applies(self) -> bool:
        """Whether the test is one at this scale; otherwise it has no part in the verdict on its claim."""
        return self.test.applies_at(self.scale)

    @property
    def command(self) -> str:
        """What makes the runs it rests on."""
        return f"nfrepro sweep {self.test.form.experiment} --scale {self.scale}"

    def report(self) -> dict[str, Any]:
        """Everything that the verdict rests on, as JSON."""
        form, decision = self.test.form, self.decision
        return {
            "experiment": form.experiment,
            "selections": {name: readable(found.where) for name, found in self.test.selections.items()},
            "quantity": str(form.quantity),
            "across": form.across,
            "seeds": form.seeds,
            "requires": list(form.requires),
            "rule": str(form.rule),
            "verdict": decision.verdict,
            **_numbers(decision.interval),
            "p": decision.p,
            "level": decision.level,
            "runs": self.evidence.states,
            "arms": [_arm(arm) for arm in self.evidence.arms],
            "method": decision.method,
            "remark": self.evidence.remark,
            "note": form.note,
            "command": self.command,
        }


@dataclass(frozen=True)
class ClaimVerdict:
    """The verdict on a claim at a scale, with the answers to its tests."""

    claim: Claim
    scale: str
    verdict: Verdict
    answers: tuple[Answer, ...]
    evidence: ClaimEvidence
    ruling: Ruling
    ending: Ending = ""

    @property
    def applying(self) -> tuple[Answer, ...]:
        """The answers of this scale."""
        return tuple(answer for answer in self.answers if answer.applies)

    @property
    def decisive(self) -> Answer | None:
        """The first test that has the claim's verdict: its numbers stand for the claim. None without any test."""
        answers = self.applying or self.answers
        like = (answer for answer in answers if answer.decision.verdict == self.verdict)
        return next(like, next(iter(answers), None))

    @property
    def decision(self) -> Decision:
        """That of the decisive test, or the reason why there is none."""
        form = self.claim.form
        return self.decisive.decision if self.decisive else not_run(form.fact or form.untested or "")

    @property
    def exact(self) -> bool:
        """Whether it was decided by value."""
        return self.evidence.exact and self.verdict in ("supported", "contradicted")

    @property
    def in_part(self) -> tuple[int, int] | None:
        """How many tests of how many are contradicted, where not all are."""
        contradicted = sum(answer.decision.verdict == "contradicted" for answer in self.applying)
        partly = self.verdict == "contradicted" and contradicted < len(self.applying)
        return (contradicted, len(self.applying)) if partly else None

    @property
    def n(self) -> int | None:
        """Seeds an arm at the look that is shown; None where a scale has no planned looks, or none was had."""
        return self.evidence.planned[self.ruling.look] if self.evidence.planned and self.ruling.look >= 0 else None

    @property
    def words(self) -> str:
        """The verdict in full."""
        if self.verdict == "not testable":
            return "not testable in this regime"
        if self.in_part:
            return "contradicted in part ({} of {})".format(*self.in_part)
        if self.verdict == "inconclusive" and self.ending:
            return f"inconclusive, {self.ending}"
        return f"{self.verdict}{' (exact)' if self.exact else ''}"

    @property
    def explanation(self) -> Explanation | None:
        """What a person thinks of this verdict; None where nobody has said, or only of another one."""
        explained = self.claim.explained.get(self.scale)
        return explained if explained is not None and explained.verdict == self.verdict else None

    @property
    def commands(self) -> list[str]:
        """What makes the runs, and then this verdict."""
        runs = dict.fromkeys(answer.command for answer in self.applying)
        return [*runs, f"nfrepro claims {self.claim.id} --scale {self.scale}"]

    def report(self) -> dict[str, Any]:
        """The claim as JSON: its numbers are those of the decisive test; all tests follow."""
        form, explanation = self.claim.form, self.explanation
        return {
            "id": self.claim.id,
            "series": self.claim.series,
            "statement": form.statement,
            "verdict": self.verdict,
            "words": self.words,
            "ending": self.ending,
            "exact": self.exact,
            "scale": self.scale,
            "looks": list(self.evidence.planned),
            "looks_had": len(self.evidence.had) if self.evidence.planned else None,
            "controls": [reading.report() for reading in self.evidence.controls],
            **_numbers(self.decision.interval),
            "paper": form.paper,
            "method": self.decision.method,
            "source": form.source,
            "stated_by": form.stated_by,
            "known_from": form.known_from,
            "note": form.note,
            "was": self.claim.was.model_dump() if self.claim.was else None,
            "likely_reason": explanation and explanation.reason,
            "settled_by": explanation and explanation.settled_by,
            "commands": self.commands,
            "tests": [answer.report() for answer in self.answers],
        }


@dataclass(frozen=True)
class Judgement:
    """The verdicts of a report: the list, with each claim at the best scale that can test it, and each scale apart."""

    best: tuple[ClaimVerdict, ...]
    by_scale: Mapping[str, tuple[ClaimVerdict, ...]]  # smaller scales first


def judge(claims: Sequence[Claim], results: Path, scale: str) -> list[ClaimVerdict]:
    """The verdicts at one scale on all `claims`: give them all, since they are one list.

    Raises `InputError` for results that cannot be read, and tests that do not fit them.
    """
    return _verdicts(gather_all(claims, results, scale))


def judge_best(claims: Sequence[Claim], results: Path, scales: Sequence[str]) -> Judgement:
    """The verdicts at each of `scales`, smaller ones first, and those of the list that the error rate holds for."""
    found = {scale: gather_all(claims, results, scale) for scale in scales}
    best = [_best(readings) for readings in zip(*found.values(), strict=True)]
    return Judgement(tuple(_verdicts(best)), {scale: tuple(_verdicts(of)) for scale, of in found.items()})


def judge_at(claims: Sequence[Claim], results: Path, scales: Sequence[str], scale: str) -> list[ClaimVerdict]:
    """The verdicts of the list, with each claim at `scale` that has tests there: how far they are settled there."""
    found = {name: gather_all(claims, results, name) for name in dict.fromkeys((*scales, scale))}
    best = [_best(readings) for readings in zip(*found.values(), strict=True)]
    return _verdicts([at if at.applies else other for at, other in zip(found[scale], best, strict=True)])


def gather_all(claims: Sequence[Claim], results: Path, scale: str) -> list[ClaimEvidence]:
    """The evidence of a scale for each claim."""
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
        parts = [(part, table(test)) for test in claim.tests_at(scale) for part in split(test, table(test))]
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


def _best(readings: Sequence[ClaimEvidence]) -> ClaimEvidence:
    """That of the largest scale that can test the claim; else of the largest that has runs, else tests, for it."""
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


def _verdicts(found: Sequence[ClaimEvidence]) -> list[ClaimVerdict]:
    """The verdicts on a list of claims. Exact ones are counted apart."""
    listed = [evidence for evidence in found if evidence.claim.tests and not evidence.exact]
    rulings = iter(rule([evidence.course() for evidence in listed]))
    none = rule([Course((), _ONE_LOOK)])[0]
    return [_verdict(of, next(rulings) if of.claim.tests and not of.exact else none) for of in found]


def _verdict(found: ClaimEvidence, ruling: Ruling) -> ClaimVerdict:
    claim = found.claim
    shown = found.looks[min(max(ruling.look, 0), len(found.looks) - 1)]
    tests = len(shown.evidence)
    applying = [
        Answer(test, found.scale, evidence, decide_test(evidence.sample, ruling, tests, claim.form.holds_if))
        for test, evidence in shown.evidence
    ]
    others = [_of_other_scales(test, found.scale) for test in claim.tests if not test.applies_at(found.scale)]
    answers = tuple(sorted([*applying, *others], key=lambda answer: _place(answer, claim)))
    verdict = _verdict_word(found, ruling, [answer.decision for answer in applying])
    ending: Ending = ruling.ending if verdict == "inconclusive" else ""
    return ClaimVerdict(claim, found.scale, verdict, answers, found, ruling, ending)


def _verdict_word(found: ClaimEvidence, ruling: Ruling, decisions: Sequence[Decision]) -> Verdict:
    if found.claim.form.fact is not None:
        return "fact"
    if not decisions:
        return "not run"
    if found.failed:
        return "not testable"
    if found.unknown or not found.had:
        return "not run"
    if found.exact:
        return combine([decision.verdict for decision in decisions], found.claim.form.holds_if)
    missing = any(decision.interval is None for decision in decisions)
    return "not run" if missing and ruling.verdict == "inconclusive" else ruling.verdict


def _place(answer: Answer, claim: Claim) -> int:
    """Of its test in the file, of which it may be a part."""
    return next(index for index, test in enumerate(claim.tests) if test.origin == answer.test.origin)


def _of_other_scales(test: ClaimTest, scale: str) -> Answer:
    scales = test.scales or ()
    reason = f"for scale {scales[0]} only" if len(scales) == 1 else f"not for scale {scale}"
    return Answer(test, scale, Evidence(Missing(reason)), not_run(reason))


def _numbers(interval: Interval | None) -> dict[str, Any]:
    """Estimate, 95 % interval and n; without a run they are null, null and 0."""
    if interval is None:
        return {"estimate": None, "interval": None, "n": 0}
    return {"estimate": interval.mean, "interval": [interval.low, interval.high], "n": interval.n}


def _arm(arm: ArmRuns) -> dict[str, Any]:
    mean = arm.interval.mean if arm.values else None
    return {
        "name": arm.name,
        "where": readable(arm.where),
        "runs": dict(arm.states),
        "mean": mean,
        "values": {str(seed): value for seed, value in arm.values.items()},
    }
