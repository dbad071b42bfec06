"""The verdicts on claims at one scale, from stored results: what a report needs to show of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nfrepro.claims.claim import Claim, ClaimTest, Explanation
from nfrepro.claims.evidence import ArmRuns, Evidence, gather
from nfrepro.claims.runs import read_results, readable, split
from nfrepro.claims.verdicts import Decision, Verdict, combine, decide, not_run
from nfrepro.stats.samples import Missing


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
            "rule": str(form.rule),
            "verdict": decision.verdict,
            **_numbers(decision),
            "p": decision.p,
            "level": decision.level,
            "seeds_needed": decision.seeds_needed,
            "runs": self.evidence.states,
            "arms": [_arm(arm) for arm in self.evidence.arms],
            "method": decision.method,
            "remark": self.evidence.remark,
            "note": form.note,
            "command": self.command,
        }


@dataclass(frozen=True)
class ClaimVerdict:
    """The verdict on a claim, with the answers to its tests."""

    claim: Claim
    scale: str
    verdict: Verdict
    answers: tuple[Answer, ...]

    @property
    def applying(self) -> tuple[Answer, ...]:
        """The answers of this scale."""
        return tuple(answer for answer in self.answers if answer.applies)

    @property
    def decisive(self) -> Answer | None:
        """The first test that has the claim's verdict: its numbers stand for the claim. None without any test."""
        answers = self.applying or self.answers
        return next((answer for answer in answers if answer.decision.verdict == self.verdict), None)

    @property
    def decision(self) -> Decision:
        """That of the decisive test, or the reason why there is none."""
        return self.decisive.decision if self.decisive else not_run(self.claim.form.untested or "")

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
            "scale": self.scale,
            **_numbers(self.decision),
            "paper": form.paper,
            "method": self.decision.method,
            "source": form.source,
            "stated_by": form.stated_by,
            "known_from": form.known_from,
            "note": form.note,
            "likely_reason": explanation and explanation.reason,
            "settled_by": explanation and explanation.settled_by,
            "commands": self.commands,
            "tests": [answer.report() for answer in self.answers],
        }


def judge(claims: Sequence[Claim], results: Path, scale: str) -> list[ClaimVerdict]:
    """The verdicts on all `claims`: give them all, since the tests on one experiment's runs are judged together.

    Raises `InputError` for results that cannot be read, and tests that do not fit them.
    """
    experiments = dict.fromkeys(test.form.experiment for claim in claims for test in claim.tests)
    families = {name: _family(claims, results, name, scale) for name in experiments}
    verdicts = []
    for claim in claims:
        # A family is in the order of the claims and their tests, as this loop is.
        answers = tuple(answer for test in claim.tests for answer in next(families[test.form.experiment]))
        verdict = combine([answer.decision.verdict for answer in answers if answer.applies])
        verdicts.append(ClaimVerdict(claim, scale, verdict, answers))
    return verdicts


def _family(claims: Sequence[Claim], results: Path, experiment: str, scale: str) -> Iterator[list[Answer]]:
    """The answers to each test on the experiment's runs, in order: several where the test is split."""
    tests = [test for claim in claims for test in claim.tests if test.form.experiment == experiment]
    table = read_results(results, experiment, scale)
    found = [
        [(part, gather(part, table)) for part in split(test, table)] if test.applies_at(scale) else [] for test in tests
    ]
    decisions = iter(decide([evidence.sample for parts in found for _, evidence in parts]))
    for test, parts in zip(tests, found, strict=True):
        if test.applies_at(scale):
            yield [Answer(part, scale, evidence, next(decisions)) for part, evidence in parts]
        else:
            yield [_of_other_scales(test, scale)]


def _of_other_scales(test: ClaimTest, scale: str) -> Answer:
    scales = test.scales or ()
    reason = f"for scale {scales[0]} only" if len(scales) == 1 else f"not for scale {scale}"
    return Answer(test, scale, Evidence(Missing(reason)), not_run(reason))


def _numbers(decision: Decision) -> dict[str, Any]:
    """Estimate, 95 % interval and n; without a run they are null, null and 0."""
    interval = decision.interval
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
