"""The verdicts on claims at one scale, from stored results, for people and for programs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nfrepro.evidence.claim_runs import Evidence, gather, read_results
from nfrepro.evidence.claims import Claim, ClaimTest, Where
from nfrepro.evidence.verdicts import MOST_SEEDS, Decision, Verdict, combine, decide


@dataclass(frozen=True)
class Answer:
    """What the runs say to one test."""

    test: ClaimTest
    evidence: Evidence
    decision: Decision

    def report(self) -> dict[str, Any]:
        """Everything that the verdict rests on, as JSON."""
        form, decision = self.test.form, self.decision
        return {
            "experiment": form.experiment,
            "where": _readable(self.test.where),
            "against": None if self.test.against is None else _readable(self.test.against),
            "quantity": str(form.quantity),
            "across": form.across,
            "rule": str(form.rule),
            "verdict": decision.verdict,
            **_numbers(decision),
            "p": decision.p,
            "level": decision.level,
            "seeds_needed": decision.seeds_needed,
            "runs": dict(self.evidence.states),
            "method": decision.method,
            "note": form.note,
        }


@dataclass(frozen=True)
class ClaimVerdict:
    """The verdict on a claim, with the answers to its tests."""

    claim: Claim
    scale: str
    verdict: Verdict
    answers: tuple[Answer, ...]

    @property
    def decisive(self) -> Answer:
        """The first test that has the claim's verdict: its numbers stand for the claim."""
        return next(answer for answer in self.answers if answer.decision.verdict == self.verdict)

    def report(self) -> dict[str, Any]:
        """The claim as JSON: its numbers are those of the decisive test; all tests follow."""
        form = self.claim.form
        return {
            "id": self.claim.id,
            "statement": form.statement,
            "verdict": self.verdict,
            "scale": self.scale,
            **_numbers(self.decisive.decision),
            "paper": form.paper,
            "method": self.decisive.decision.method,
            "source": form.source,
            "stated_by": form.stated_by,
            "note": form.note,
            "tests": [answer.report() for answer in self.answers],
        }

    def lines(self) -> Iterator[str]:
        """The claim and its tests for people."""
        yield f"{self.claim.id:4} {self.verdict:13} {self.claim.form.statement}"
        for answer in self.answers:
            form = answer.test.form
            runs = ", ".join(f"{key} {value}" for key, value in _readable(answer.test.where).items())
            selection = f"{form.experiment}{f' ({runs})' if runs else ''}"
            yield f"       {answer.decision.verdict:13} {selection}: {form.quantity} {form.rule}: {_result(answer)}"


def judge(claims: Sequence[Claim], results: Path, scale: str) -> list[ClaimVerdict]:
    """The verdicts on all `claims`: give them all, since the tests on one experiment's runs are judged together.

    Raises `InputError` for results that cannot be read, and tests that do not fit them.
    """
    experiments = dict.fromkeys(test.form.experiment for claim in claims for test in claim.tests)
    families = {name: iter(_family(claims, results, name, scale)) for name in experiments}
    verdicts = []
    for claim in claims:
        # A family is in the order of the claims and their tests, as this loop is.
        answers = tuple(next(families[test.form.experiment]) for test in claim.tests)
        verdict = combine([answer.decision.verdict for answer in answers])
        verdicts.append(ClaimVerdict(claim, scale, verdict, answers))
    return verdicts


def _family(claims: Sequence[Claim], results: Path, experiment: str, scale: str) -> list[Answer]:
    tests = [test for claim in claims for test in claim.tests if test.form.experiment == experiment]
    table = read_results(results, experiment, scale)
    found = [gather(test, table) for test in tests]
    decisions = decide([evidence.sample for evidence in found])
    return [Answer(*parts) for parts in zip(tests, found, decisions, strict=True)]


def _numbers(decision: Decision) -> dict[str, Any]:
    """Estimate, 95 % interval and n; without a run they are null, null and 0."""
    interval = decision.interval
    if interval is None:
        return {"estimate": None, "interval": None, "n": 0}
    return {"estimate": interval.mean, "interval": [interval.low, interval.high], "n": interval.n}


def _result(answer: Answer) -> str:
    decision = answer.decision
    if decision.interval is None:
        return decision.method
    interval = decision.interval
    text = f"{interval.mean:.4g}"
    if decision.p is None:
        return f"{text}, n = {interval.n}, exact{_diverged(answer)}"
    text += f" [{interval.low:.4g}, {interval.high:.4g}], n = {interval.n}, p = {decision.p:.2g}"
    if decision.verdict == "inconclusive":
        seeds = f"about {decision.seeds_needed}" if decision.seeds_needed else f"more than {MOST_SEEDS}"
        text += f" (needs {decision.level:.2g}; {seeds} seeds would settle it)"
    return text + _diverged(answer)


def _diverged(answer: Answer) -> str:
    diverged = answer.evidence.states.get("diverged", 0)
    return f", {diverged} diverged and not counted in n" if diverged else ""


def _readable(where: Where) -> dict[str, Any]:
    return {key: values[0] if len(values) == 1 else list(values) for key, values in where.items()}
