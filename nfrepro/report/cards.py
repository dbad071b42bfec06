"""The text of a claim in the report, with the same words and digits in every format."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nfrepro.claims.claim import Verdict
from nfrepro.claims.evidence import ArmRuns
from nfrepro.claims.judge import Answer, ClaimVerdict
from nfrepro.claims.lines import question, runs_meant
from nfrepro.claims.runs import part_text, where_text
from nfrepro.report.costs import Costs
from nfrepro.report.effects import Effect, effect
from nfrepro.report.interval_picture import IntervalPicture, picture
from nfrepro.report.reasons import settled_by, why_open
from nfrepro.report.sections import Section, section_of
from nfrepro.report.words import KNOWN_FROM, number
from nfrepro.stats.samples import Missing

# "others" as in "- others'", with which the names of some quantities end.
_ARMS = {"where": "these", "against": "others"}


@dataclass(frozen=True)
class Arm:
    """The runs of one selection."""

    name: str
    runs: str
    states: str
    n: int
    mean: str
    values: str  # one per seed


@dataclass(frozen=True)
class Finding:
    """The answer of the runs to one test."""

    verdict: Verdict
    experiment: str
    runs_meant: str
    question: str
    estimate: str  # empty if not run
    interval: str  # empty if not run, or if it is exact
    n: int
    method: str
    why: str  # why it is not decided
    remark: str
    note: str
    arms: tuple[Arm, ...]
    picture: IntervalPicture | None
    effect: Effect | None


@dataclass(frozen=True)
class Reading:
    """The answer of the runs at one scale to a claim; the finding that decides it comes first."""

    scale: str
    verdict: Verdict
    words: str  # the verdict in full
    is_open: bool  # seeds are still to come
    controls: tuple[str, ...]  # those that failed or were not run, each with what would make it hold
    of_tests: str  # the share of its tests with that verdict; empty if it has only one
    share: str  # the same, unless `words` has it
    reason: str  # the reason why there is no finding
    findings: tuple[Finding, ...]
    likely_reason: str
    settled_by: tuple[str, ...]
    commands: tuple[str, ...]
    cost: str  # of its runs; empty if unknown
    experiments: tuple[str, ...]

    @property
    def needs_a_reason(self) -> bool:
        """Whether a person has to give a reason for the verdict."""
        return self.verdict in ("contradicted", "inconclusive") and bool(self.findings) and not self.is_open

    @property
    def remarks(self) -> Iterator[tuple[str, str]]:
        """Remarks on the findings, each under its heading."""
        if self.controls:
            yield "Controls", " ".join(self.controls)
        if methods := dict.fromkeys(finding.method for finding in self.findings if finding.estimate):
            yield "Method", f"{'. '.join(methods)}."
        if self.verdict == "inconclusive" and (whys := dict.fromkeys(of.why for of in self.findings if of.why)):
            yield "Open because", " ".join(whys)
        if self.likely_reason or self.needs_a_reason:
            yield "Likely reason", self.likely_reason or "Not written yet."
        if self.settled_by:
            yield "What would settle it", " ".join(self.settled_by)


@dataclass(frozen=True)
class Card:
    """A claim, and what is known about it at each scale."""

    id: str
    series: str
    statement: str
    section: Section
    source: str
    stated_by: str
    known_from: str
    paper: str
    note: str
    was: str  # the verdict by the previous rule
    readings: tuple[Reading, ...]  # the one that counts, then those of other scales

    @property
    def best(self) -> Reading:
        """The reading that counts."""
        return self.readings[0]

    @property
    def found(self) -> Finding | None:
        """The finding whose numbers represent the claim; None if nothing was measured."""
        measured = (finding for finding in self.best.findings[:1] if finding.estimate)
        return next(measured, None)


def card(best: ClaimVerdict, others: Sequence[ClaimVerdict], scales: Sequence[str], costs: Costs) -> Card:
    """The card of a claim from its verdicts; `scales` are all known ones, smaller ones first."""
    claim, form = best.claim, best.claim.form
    was = claim.was
    return Card(
        id=claim.id,
        series=claim.series,
        statement=form.statement,
        section=section_of(form.source),
        source=form.source,
        stated_by=form.stated_by,
        known_from=KNOWN_FROM[form.known_from],
        paper=form.paper or "",
        note=form.note or "",
        was=f"{was.verdict} at scale {was.scale}, by another rule. {was.why}" if was else "",
        readings=tuple(_reading(verdict, scales, costs) for verdict in (best, *others)),
    )


def finding(found: ClaimVerdict) -> str:
    """The claim's number in a sentence; empty if it has none or its meaning is not given."""
    of_test = found.decisive.test.form.finding if found.decisive else None
    meaning, decision = of_test or found.claim.form.finding, found.decision
    if found.decisive is None or meaning is None or decision.interval is None:
        return ""
    if found.verdict in ("not testable", "not run"):
        return ""
    if part := part_text(found.decisive.test):
        meaning += f" ({part})"
    interval = decision.interval
    bounds = "" if decision.p is None else f" [{number(interval.low)}, {number(interval.high)}]"
    return f"{meaning}: {number(interval.mean)}{bounds}, n = {interval.n}, scale {found.scale}."


def _reading(found: ClaimVerdict, scales: Sequence[str], costs: Costs) -> Reading:
    # If no test applies at this scale, the reason for that takes the place of findings.
    answers = sorted(found.applying, key=lambda answer: answer is not found.decisive)
    like = sum(answer.decision.verdict == found.verdict for answer in answers)
    of_tests = f"{like} of {len(answers)} tests {found.verdict}" if len(answers) > 1 else ""
    experiments = tuple(dict.fromkeys(answer.test.form.experiment for answer in found.applying))
    sweeps = tuple(f"make sweep EXP={name} SCALE={found.scale}" for name in experiments)
    return Reading(
        scale=found.scale,
        verdict=found.verdict,
        words=found.words,
        is_open=found.ending == "open",
        controls=tuple(
            f"{reading}. Testable if {reading.control.form.testable_if}."
            for reading in (*found.evidence.failed, *found.evidence.unknown)
        ),
        of_tests=of_tests,
        share=of_tests if found.in_part is None else "",
        reason="" if answers else found.decision.method,
        findings=tuple(map(_finding, answers)),
        likely_reason=found.explanation.reason if found.explanation else "",
        settled_by=tuple(settled_by(found, scales)),
        commands=(*sweeps, f"make claims SCALE={found.scale}") if sweeps else (),
        cost=costs.text(experiments, found.scale),
        experiments=experiments,
    )


def _finding(answer: Answer) -> Finding:
    form, decision = answer.test.form, answer.decision
    interval = decision.interval
    exact = decision.p is None
    sample = answer.evidence.sample
    bounds = form.rule.bounds if isinstance(sample, Missing) else sample.bounds
    return Finding(
        verdict=decision.verdict,
        experiment=form.experiment,
        runs_meant=runs_meant(answer),
        question=question(answer),
        estimate=number(interval.mean) if interval else "",
        interval=f"[{number(interval.low)}, {number(interval.high)}]" if interval and not exact else "",
        n=interval.n if interval else 0,
        method=decision.method,
        why=why_open(decision, bounds),
        remark=answer.evidence.remark,
        note=form.note or "",
        arms=tuple(map(_arm, answer.evidence.arms)),
        picture=picture(interval, bounds) if interval else None,
        effect=effect(interval, bounds) if interval else None,
    )


def _arm(arm: ArmRuns) -> Arm:
    values = [number(arm.values[seed]) for seed in sorted(arm.values)]
    states = ", ".join(f"{count} {state}" for state, count in sorted(arm.states.items()))
    mean = number(arm.interval.mean) if values else ""
    return Arm(_ARMS.get(arm.name, arm.name), where_text(arm.where), states, len(values), mean, ", ".join(values))
