"""Verdicts on claims as lines of text."""

from collections import Counter
from collections.abc import Iterator, Sequence

from nfrepro.claims.judge import Answer, ClaimVerdict
from nfrepro.claims.runs import where_text

_INDENT = 5 * " "


def overview(found: ClaimVerdict) -> Iterator[str]:
    """The claim on one line, and what decided it below."""
    yield _title(found)
    if found.decisive is None:
        yield f"{_INDENT}{found.decision.method}"
        return
    for reading in (*found.evidence.failed, *found.evidence.unknown):
        yield f"{_INDENT}control: {reading}"
    if found.evidence.failed:
        return
    tests = found.applying or found.answers
    like = sum(answer.decision.verdict == found.verdict for answer in tests)
    share = "" if len(tests) == 1 else f"{like} of {len(tests)} tests {found.verdict}; "
    asked = "" if found.verdict == "not run" else f"{question(found.decisive)}: "
    yield f"{_INDENT}{share}{found.decisive.test.form.experiment}: {asked}{result(found.decisive)}{_looks(found)}"


def details(found: ClaimVerdict) -> Iterator[str]:
    """The claim with its source, and each of its tests."""
    form = found.claim.form
    yield _title(found)
    known_from = form.known_from.replace("_", " ")
    yield f"{_INDENT}source: {form.source}; stated by: {form.stated_by}; known from: {known_from}"
    if form.paper is not None:
        yield f"{_INDENT}paper: {form.paper}"
    for text in (form.untested, form.fact):
        if text is not None:
            yield f"{_INDENT}{text}"
    if form.note is not None:
        yield f"{_INDENT}note: {form.note}"
    if was := found.claim.was:
        yield f"{_INDENT}was: {was.verdict} at scale {was.scale}, by another rule: {was.why}"
    if found.explanation is not None:
        yield f"{_INDENT}likely reason: {found.explanation.reason}"
    if looks := _looks(found):
        yield f"{_INDENT}looks{looks.removeprefix(';')}"
    for reading in found.evidence.controls:
        held = {True: "holds", False: "fails", None: "not run"}[reading.holds]
        yield f"{_INDENT}control {held}: {reading}"
    for answer in found.answers:
        runs = runs_meant(answer)
        listed = f"{answer.test.form.experiment}{f' ({runs})' if runs else ''}"
        yield f"{_INDENT}{answer.decision.verdict:13} {listed}: {question(answer)}: {result(answer)}"
        if answer.test.form.note is not None:
            yield f"{_INDENT}{'':13} note: {answer.test.form.note}"


def tally(found: Sequence[ClaimVerdict], where: str) -> str:
    """The number of claims with each verdict; `where` names the scale at which they were judged."""
    counts, exact = Counter(verdict.verdict for verdict in found), Counter(v.verdict for v in found if v.exact)
    listed = ", ".join(
        f"{count} {verdict}{f' ({exact[verdict]} exact)' if exact[verdict] else ''}"
        for verdict, count in sorted(counts.items())
    )
    return f"{len(found)} claim{'' if len(found) == 1 else 's'} at {where}: {listed}"


def result(answer: Answer) -> str:
    """Estimate, interval, n, p and the treatment of diverged runs; without runs, the reason."""
    decision = answer.decision
    if decision.interval is None:
        return decision.method
    interval, remark = decision.interval, f", {answer.evidence.remark}" if answer.evidence.remark else ""
    text = f"{interval.mean:.4g}"
    if decision.p is None:
        return f"{text}, n = {interval.n}, exact{remark}"
    text += f" [{interval.low:.4g}, {interval.high:.4g}], n = {interval.n}, p = {decision.p:.2g}"
    return text + (f" (needs {decision.level:.2g})" if decision.verdict == "inconclusive" else "") + remark


def _looks(found: ClaimVerdict) -> str:
    """The look that is shown, and those that are planned; empty if none took place."""
    if not found.evidence.planned or found.n is None:
        return ""
    planned = ", ".join(map(str, found.evidence.planned))
    return f"; look at n = {found.n} of {planned}"


def runs_meant(answer: Answer) -> str:
    """The runs of each selection in words; empty if all runs are meant."""
    meant = {name: where_text(of.where) for name, of in answer.test.selections.items()}
    if list(meant) == ["where"]:
        return meant["where"]
    if list(meant) == ["where", "against"]:
        return f"{meant['where'] or 'all'} against {meant['against'] or 'all'}"
    return "; ".join(f"{name}: {where}" for name, where in meant.items())


def question(answer: Answer) -> str:
    """The quantity, and the values that the rule allows."""
    return f"{answer.test.form.quantity} {answer.test.form.rule}"


def _title(found: ClaimVerdict) -> str:
    return f"{found.claim.id:4} {found.words:13} {found.claim.form.statement}"
