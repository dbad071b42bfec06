"""The verdicts on claims, from stored results, with all that a report shows of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nfrepro.claims.checks import check_runs, check_scale
from nfrepro.claims.claim import Claim, ClaimTest, Explanation, Verdict
from nfrepro.claims.claim_evidence import ONE_LOOK, ClaimEvidence, best_evidence, gather_all, numbers_of
from nfrepro.claims.evidence import ArmRuns, Evidence
from nfrepro.claims.file import Schemas
from nfrepro.claims.rule import Course, Decision, Ending, Ruling, combine, decide_test, not_run, rule
from nfrepro.claims.runs import known_scales, readable
from nfrepro.runs.table import table_path
from nfrepro.stats.samples import Missing


@dataclass(frozen=True)
class Answer:
    """The answer of the runs to one test."""

    test: ClaimTest
    scale: str
    evidence: Evidence
    decision: Decision

    @property
    def applies(self) -> bool:
        """Whether the test applies at this scale; otherwise it has no part in the verdict on its claim."""
        return self.test.applies_at(self.scale)

    @property
    def command(self) -> str:
        """The command that makes the runs of the test."""
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
            **numbers_of(decision.interval),
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
        """The answers to the tests that apply at this scale."""
        return tuple(answer for answer in self.answers if answer.applies)

    @property
    def decisive(self) -> Answer | None:
        """The first answer with the claim's verdict, or else the first: it represents the claim. None without tests."""
        answers = self.applying or self.answers
        like = (answer for answer in answers if answer.decision.verdict == self.verdict)
        return next(like, next(iter(answers), None))

    @property
    def decision(self) -> Decision:
        """The decision on the decisive test, or the reason why there is none."""
        form = self.claim.form
        return self.decisive.decision if self.decisive else not_run(form.fact or form.untested or "")

    @property
    def exact(self) -> bool:
        """Whether the claim was decided by value, without chance."""
        return self.evidence.exact and self.verdict in ("supported", "contradicted")

    @property
    def in_part(self) -> tuple[int, int] | None:
        """The number of contradicted tests, and of all; None unless the claim is contradicted in part."""
        contradicted = sum(answer.decision.verdict == "contradicted" for answer in self.applying)
        partly = self.verdict == "contradicted" and contradicted < len(self.applying)
        return (contradicted, len(self.applying)) if partly else None

    @property
    def n(self) -> int | None:
        """Seeds per arm at the look that is shown; None if the scale has no planned looks, or before the first."""
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
        """The written explanation of this verdict; None if there is none, or only one of another verdict."""
        explained = self.claim.explained.get(self.scale)
        return explained if explained is not None and explained.verdict == self.verdict else None

    @property
    def commands(self) -> list[str]:
        """The commands that make the runs, and then this verdict."""
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
            **numbers_of(self.decision.interval),
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
    """The verdicts of a report: the list, with each claim at the best scale that can test it, and scale by scale."""

    best: tuple[ClaimVerdict, ...]
    by_scale: Mapping[str, tuple[ClaimVerdict, ...]]  # smaller scales first


def judge(claims: Sequence[Claim], results: Path, scale: str) -> list[ClaimVerdict]:
    """The verdicts on `claims` at one scale: pass all claims, since they are judged as one list.

    Raises `InputError` for results that cannot be read, and tests that do not fit them.
    """
    return _verdicts(gather_all(claims, results, scale))


def judge_best(claims: Sequence[Claim], results: Path, scales: Sequence[str]) -> Judgement:
    """The verdicts at each of `scales`, smaller ones first, and those of the list for which the error rate holds."""
    found = {scale: gather_all(claims, results, scale) for scale in scales}
    best = [best_evidence(readings) for readings in zip(*found.values(), strict=True)]
    return Judgement(tuple(_verdicts(best)), {scale: tuple(_verdicts(of)) for scale, of in found.items()})


def judge_at(claims: Sequence[Claim], results: Path, scales: Sequence[str], scale: str) -> list[ClaimVerdict]:
    """The verdicts of the list, with each claim at `scale` if it has tests there, or else at its best scale."""
    found = {name: gather_all(claims, results, name) for name in dict.fromkeys((*scales, scale))}
    best = [best_evidence(readings) for readings in zip(*found.values(), strict=True)]
    return _verdicts([at if at.applies else other for at, other in zip(found[scale], best, strict=True)])


def _verdicts(found: Sequence[ClaimEvidence]) -> list[ClaimVerdict]:
    """The verdicts on a list of claims; exact claims are judged outside it."""
    listed = [evidence for evidence in found if evidence.claim.tests and not evidence.exact]
    rulings = iter(rule([evidence.course() for evidence in listed]))
    none = rule([Course((), ONE_LOOK)])[0]
    return [_verdict(of, next(rulings) if of.claim.tests and not of.exact else none) for of in found]


def _verdict(found: ClaimEvidence, ruling: Ruling) -> ClaimVerdict:
    claim = found.claim
    shown = found.looks[min(max(ruling.look, 0), len(found.looks) - 1)]
    tests = len(shown.evidence)
    applying = [
        Answer(test, found.scale, evidence, _decision(found, evidence, ruling, tests))
        for test, evidence in shown.evidence
    ]
    others = [_of_other_scales(test, found.scale) for test in claim.tests if not test.applies_at(found.scale)]
    answers = tuple(sorted([*applying, *others], key=lambda answer: _place(answer, claim)))
    verdict = _verdict_word(found, ruling, [answer.decision for answer in applying])
    ending: Ending = ruling.ending if verdict == "inconclusive" else ""
    return ClaimVerdict(claim, found.scale, verdict, answers, found, ruling, ending)


def _decision(found: ClaimEvidence, evidence: Evidence, ruling: Ruling, tests: int) -> Decision:
    """The decision on one of a claim's `tests` tests: none if a control failed or was not run."""
    decision = decide_test(evidence.sample, ruling, tests, found.claim.form.holds_if)
    if decision.interval is None or not (found.failed or found.unknown):
        return decision
    return replace(decision, verdict="not testable" if found.failed else "not run")


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
    """The position in the file of the answer's test, which `each` may have split."""
    return next(index for index, test in enumerate(claim.tests) if test.origin == answer.test.origin)


def _of_other_scales(test: ClaimTest, scale: str) -> Answer:
    scales = test.scales or ()
    reason = f"for scale {scales[0]} only" if len(scales) == 1 else f"not for scale {scale}"
    return Answer(test, scale, Evidence(Missing(reason)), not_run(reason))


def _arm(arm: ArmRuns) -> dict[str, Any]:
    mean = arm.interval.mean if arm.values else None
    return {
        "name": arm.name,
        "where": readable(arm.where),
        "runs": dict(arm.states),
        "mean": mean,
        "values": {str(seed): value for seed, value in arm.values.items()},
    }


def verdicts_at(
    scale: str | None, claims: Sequence[Claim], experiments: Path, results: Path, schemas: Schemas
) -> list[ClaimVerdict]:
    """The verdicts of one scale, or (None) of the list. Raises `InputError` for results that do not fit."""
    if scale is None:
        return list(judge_stored(claims, known_scales(claims, experiments), experiments, results, schemas).best)
    check_scale(claims, experiments, scale)
    check_runs(claims, experiments, scale, schemas)
    return judge(claims, results, scale)


def judge_stored(
    claims: Sequence[Claim], scales: Sequence[str], experiments: Path, results: Path, schemas: Schemas
) -> Judgement:
    """The verdicts at each of `scales` that has results. Raises `InputError` for tests that select no run."""
    stored = stored_scales(claims, scales, results)
    for scale in stored:
        check_runs(claims, experiments, scale, schemas)
    return judge_best(claims, results, stored)


def stored_scales(claims: Sequence[Claim], scales: Sequence[str], results: Path) -> list[str]:
    """The scales with tests that have results; if there are none, the first scale with tests."""
    tests = {scale: [test for claim in claims for test in claim.tests if test.applies_at(scale)] for scale in scales}
    tested = [scale for scale in scales if tests[scale]]
    stored = [s for s in tested if any(table_path(results, test.form.experiment, s).exists() for test in tests[s])]
    return stored or tested[:1]
