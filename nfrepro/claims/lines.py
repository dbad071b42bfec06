"""Verdicts on claims as lines of text."""

from collections import Counter
from collections.abc import Iterator, Sequence

from nfrepro.claims.judge import Answer, ClaimVerdict
from nfrepro.claims.runs import where_text
from nfrepro.stats.samples import MOST_SEEDS

_INDENT = 5 * " "


def overview(found: ClaimVerdict) -> Iterator[str]:
    """The claim in a line, and in another what decided it."""
    yield _title(found)
    if found.decisive is None:
        yield f"{_INDENT}{found.decision.method}"
        return
    tests = found.applying or found.answers
    like = sum(answer.decision.verdict == found.verdict for answer in tests)
    share = "" if len(tests) == 1 else f"{like} of {len(tests)} tests {found.verdict}; "
    asked = "" if found.verdict == "not run" else f"{question(found.decisive)}: "
    yield f"{_INDENT}{share}{found.decisive.test.form.experiment}: {asked}{result(found.decisive)}"


def details(found: ClaimVerdict) -> Iterator[str]:
    """The claim with where it is from, and each of its tests."""
    form = found.claim.form
    yield _title(found)
    known_from = form.known_from.replace("_", " ")
    yield f"{_INDENT}source: {form.source}; stated by: {form.stated_by}; known from: {known_from}"
    if form.paper is not None:
        yield f"{_INDENT}paper: {form.paper}"
    if form.untested is not None:
        yield f"{_INDENT}{form.untested}"
    if form.note is not None:
        yield f"{_INDENT}note: {form.note}"
    if found.explanation is not None:
        yield f"{_INDENT}likely reason: {found.explanation.reason}"
    for answer in found.answers:
        runs = runs_meant(answer)
        listed = f"{answer.test.form.experiment}{f' ({runs})' if runs else ''}"
        yield f"{_INDENT}{answer.decision.verdict:13} {listed}: {question(answer)}: {result(answer)}"
        if answer.test.form.note is not None:
            yield f"{_INDENT}{'':13} note: {answer.test.form.note}"


def tally(found: Sequence[ClaimVerdict], scale: str) -> str:
    """How many claims have which verdict."""
    counts = Counter(verdict.verdict for verdict in found)
    listed = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    return f"{len(found)} claim{'' if len(found) == 1 else 's'} at scale {scale}: {listed}"


def result(answer: Answer) -> str:
    """Estimate, interval, n, p and what was done with diverged runs; without runs why."""
    decision = answer.decision
    if decision.interval is None:
        return decision.method
    interval, remark = decision.interval, f", {answer.evidence.remark}" if answer.evidence.remark else ""
    text = f"{interval.mean:.4g}"
    if decision.p is None:
        return f"{text}, n = {interval.n}, exact{remark}"
    text += f" [{interval.low:.4g}, {interval.high:.4g}], n = {interval.n}, p = {decision.p:.2g}"
    if decision.verdict == "inconclusive":
        seeds = f"about {decision.seeds_needed}" if decision.seeds_needed else f"more than {MOST_SEEDS}"
        text += f" (needs {decision.level:.2g}; {seeds} seeds would settle it)"
    return text + remark


def runs_meant(answer: Answer) -> str:
    """The runs of each selection, as one would say them; empty where all runs are meant."""
    meant = {name: where_text(of.where) for name, of in answer.test.selections.items()}
    if list(meant) == ["where"]:
        return meant["where"]
    if list(meant) == ["where", "against"]:
        return f"{meant['where'] or 'all'} against {meant['against'] or 'all'}"
    return "; ".join(f"{name}: {where}" for name, where in meant.items())


def question(answer: Answer) -> str:
    """The quantity, and what the rule allows it to be."""
    return f"{answer.test.form.quantity} {answer.test.form.rule}"


def _title(found: ClaimVerdict) -> str:
    return f"{found.claim.id:4} {found.verdict:13} {found.claim.form.statement}"
