"""REPORT.md: the report as a forge shows it, with the figures beside it in results/."""

import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from nfrepro.report.cards import Card, Finding, Reading
from nfrepro.report.figures import Figures
from nfrepro.report.reading import Report
from nfrepro.report.words import ERROR_RATE, EXPLANATION, SYMBOLS, TITLE, verdict_text

# What Markdown would take for markup: anywhere, and at the start of a line.
_MARKS = re.compile(r"([\\`*\[\]|~$]|<(?=[A-Za-z/!?])|(?<![^\W_])_|_(?![^\W_]))")
_AT_THE_START = re.compile(r"^((?=[#>+=-])|\d+(?=[.)](\s|$)))")


def markdown(report: Report) -> str:
    """The whole document."""
    return "\n".join(_lines(report)) + "\n"


def escaped(text: str) -> str:
    """In one line, as text: nothing in it is markup."""
    line = _MARKS.sub(r"\\\1", " ".join(text.replace("&", "&amp;").split()))
    return _AT_THE_START.sub(r"\1\\", line)


def _lines(report: Report) -> Iterator[str]:
    yield from (f"# {TITLE}", "", EXPLANATION, "", ERROR_RATE, "")
    if report.found:
        yield from ("What was found, with 95 % intervals over seeds:", "")
        yield from (f"- [{claim}](#{claim.lower()}) {escaped(text)}" for claim, text in report.found)
        yield ""
    yield from _table(["verdict", "claims", "of them exact", *(f"at {s}" for s in report.scales)], _tally(report))
    for series, cards in report.series:
        yield from ("", f"## {escaped(series)}", "")
        yield from _table(["claim", "statement", "verdict", "scale"], map(_row, cards))
        for card in cards:
            yield from _card(card, report)
    yield from ("", "## Figures and tables")
    for figures in report.figures:
        yield from _figures(figures)


def _tally(report: Report) -> Iterator[list[str]]:
    for verdict in SYMBOLS:
        counts = [report.tally(), report.exact, *map(report.tally, report.scales)]
        yield [verdict_text(verdict), *(str(count[verdict]) for count in counts)]


def _row(card: Card) -> list[str]:
    best = card.readings[0]
    return [
        f"[{card.id}](#{card.id.lower()})",
        escaped(card.statement),
        verdict_text(best.verdict, best.words),
        best.scale if best.findings else "",
    ]


def _card(card: Card, report: Report) -> Iterator[str]:
    yield from ("", f"### {card.id}", "", f"**{escaped(card.statement)}**", "")
    yield f"Source: {escaped(card.source)}; stated by: {escaped(card.stated_by)}; known from: {card.known_from}."
    if card.note:
        yield f"Note: {escaped(card.note)}"
    if card.paper:
        yield from ("", f"Paper: {escaped(card.paper)}")
    if card.was:
        yield from ("", f"Was: {escaped(card.was)}")
    for reading in card.readings:
        yield from _reading(reading, report)


def _reading(reading: Reading, report: Report) -> Iterator[str]:
    share, reason = (reading.share and f" ({reading.share})"), (reading.reason and f": {escaped(reading.reason)}")
    where = f" at scale {reading.scale}" if reading.findings else ""
    yield from ("", f"**{verdict_text(reading.verdict, reading.words)}**{where}{share}{reason}", "")
    if reading.findings:
        yield from _table(["verdict", "question", "ours, 95 % interval", "n", "runs"], map(_test, reading.findings))
        yield ""
    for heading, text in reading.remarks:
        yield f"- {heading}: {escaped(text)}"
    if reading.commands:
        yield f"- Reproduce: {', then '.join(f'`{command}`' for command in reading.commands)}"
    if figures := report.figures_of(reading):
        yield f"- Figures and tables: {', '.join(f'[{of.experiment}](#{of.key})' for of in figures)}"


def _test(finding: Finding) -> list[str]:
    ours = f"{finding.estimate} {finding.interval or '(exact)'}" if finding.estimate else escaped(finding.method)
    remark = f" ({escaped(finding.remark)})" if finding.remark else ""
    note = f"<br>*{escaped(finding.note)}*" if finding.note else ""
    return [
        verdict_text(finding.verdict),
        escaped(finding.question) + note,
        ours + remark,
        str(finding.n or ""),
        "<br>".join(_runs(finding)),
    ]


def _runs(finding: Finding) -> Iterator[str]:
    if not finding.arms:
        yield escaped(f"{finding.experiment}{f': {finding.runs_meant}' if finding.runs_meant else ''}")
    several = len(finding.arms) > 1
    for arm in finding.arms:
        name, meant = (f", {arm.name}" if several else ""), (f" ({arm.runs})" if arm.runs else "")
        mean = f"mean {arm.mean}, n = {arm.n}; " if several and arm.mean else ""
        yield escaped(f"{finding.experiment}{name}{meant}: {mean}{arm.states}")


def _figures(figures: Figures) -> Iterator[str]:
    yield from ("", f"### {figures.experiment} {figures.scale}", "", escaped(figures.title) + ".")
    if figures.table:
        yield from ("", f"[Table]({quote(figures.table)})")
    for figure in figures.figures:
        yield from ("", f"![{escaped(figure.caption)}]({quote(figure.path)})")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cells)} |"
