"""REPORT.md, the report for reading on a forge, with links to the figures in results/."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from urllib.parse import quote

from nfrepro.report.cards import Card, Finding, Reading
from nfrepro.report.figures import Figures
from nfrepro.report.reading import Part, Report
from nfrepro.report.words import ERROR_RATE, EXPLANATION, SYMBOLS, TITLE, VERDICTS, counted, verdict_text
from nfrepro.terminal import printable

# Characters that Markdown takes for markup: anywhere in a line, and only at its start.
_MARKS = re.compile(r"([\\`*\[\]|~$]|<(?=[A-Za-z/!?])|(?<![^\W_])_|_(?![^\W_]))")
_AT_THE_START = re.compile(r"^((?=[#>+=-])|\d+(?=[.)](\s|$)))")
BESIDE = "The table of each experiment is next to its figures."
DETAILS = (
    "`make sweep EXP=experiment SCALE=scale` runs an experiment, and `make claims SCALE=scale` gives the verdicts. For "
    "each claim, [report.html](report.html) has the method, cost and figures, and [claims.json](claims.json) all tests."
)


def markdown(report: Report) -> str:
    """The whole document."""
    return printable("\n".join(_lines(report)) + "\n")


def escaped(text: str) -> str:
    """The text on one line, with everything escaped that Markdown takes for markup."""
    line = _MARKS.sub(r"\\\1", " ".join(text.replace("&", "&amp;").split()))
    return _AT_THE_START.sub(r"\1\\", line)


def _lines(report: Report) -> Iterator[str]:
    yield from (f"# {TITLE}", "", *_answer(report), "")
    if report.parts:
        yield from ("## Our versions of the paper's figures and tables", "")
        yield from _table(["in the paper", "ours", "claims"], map(_part, report.parts))
        yield ""
    yield from ("## Claims", "", DETAILS)
    series = ""
    for group in report.groups:
        if group.series != series:
            series = group.series
            yield from ("", escaped(series))
        yield from ("", f"**{escaped(group.section.title)}**")
        for card in group.cards:
            yield from _card(card)
    yield from ("", "## All figures", "", BESIDE, "", *_figures(report.figures), "")
    yield from _numbers(report)
    yield from ("", "## How to read this", "", EXPLANATION, "", ERROR_RATE)


def _answer(report: Report) -> Iterator[str]:
    yield f"**Of {len(report.cards)} claims: {counted(report.tally())}.**"
    yield from (f"{escaped(name)}: {counted(tally)}." for name, tally in report.tally_by_series)
    contradicted = [card for card in report.cards if card.best.verdict == "contradicted"]
    if contradicted:
        yield from ("", "Contradicted:", "", *map(_contradicted, contradicted))
    yield from ("", f"![Every claim's effect against the bound of its rule]({VERDICTS})")


def _contradicted(card: Card) -> str:
    of_tests = f" ({card.best.of_tests})" if card.best.of_tests else ""
    return f"- {_link(card)} {escaped(card.statement)}{of_tests}"


def _link(card: Card) -> str:
    return f"[{card.id}](#{card.id.lower()})"


def _part(part: Part) -> list[str]:
    claims = (f"{_link(card)} {SYMBOLS[card.best.verdict]}" for card in part.cards)
    return [escaped(part.part.title), f"[{part.figures.scale}]({quote(part.figure.path)})", ", ".join(claims)]


def _numbers(report: Report) -> Iterator[str]:
    yield from ("## In numbers", "")
    if report.found:
        yield from ("What was found, with 95 % intervals over seeds:", "")
        yield from (f"- [{claim}](#{claim.lower()}) {escaped(text)}" for claim, text in report.found)
        yield ""
    yield from _table(["verdict", "claims", "of which exact", *(f"at {s}" for s in report.scales)], _tally(report))


def _tally(report: Report) -> Iterator[list[str]]:
    for verdict in SYMBOLS:
        counts = [report.tally(), report.exact, *map(report.tally, report.scales)]
        yield [verdict_text(verdict), *(str(count[verdict]) for count in counts)]


def _card(card: Card) -> Iterator[str]:
    yield from ("", f"### {card.id}", f"{_verdict(card.best)}: {escaped(card.statement)}", "")
    if card.best.findings:
        yield f"- {_test(card.best.findings[0])}"
    yield f"- Source: {escaped(f'{card.source}: {card.paper}' if card.paper else card.source)}"
    said = {"Note": card.note, "Was": card.was, "Not tested": card.best.reason, **dict(card.best.remarks)}
    yield from (f"- {heading}: {escaped(text)}" for heading, text in said.items() if text and heading != "Method")
    for reading in card.readings[1:]:
        numbers = [f"{_ours(of)}, n = {of.n}" for of in reading.findings[:1] if of.estimate]
        yield f"- Otherwise: {': '.join([_verdict(reading), *numbers, *filter(None, [escaped(reading.reason)])])}"


def _verdict(reading: Reading) -> str:
    where = f" at scale {reading.scale}" if reading.findings else ""
    return f"**{verdict_text(reading.verdict, reading.words)}**{where}{reading.share and f' ({reading.share})'}"


def _test(finding: Finding) -> str:
    runs = f" ({escaped(finding.runs_meant)})" if finding.runs_meant else ""
    n = f", n = {finding.n}" if finding.n else ""
    ours = f"**{_ours(finding)}**{n}" if finding.estimate else escaped(finding.method)
    said = "".join(f" ({escaped(text)})" for text in (finding.remark, finding.note) if text)
    return f"{escaped(finding.experiment)}{runs}: {escaped(finding.question)}: {ours}{said}"


def _ours(finding: Finding) -> str:
    return f"{finding.estimate} {finding.interval or '(exact)'}"


def _figures(figures: Sequence[Figures]) -> Iterator[str]:
    """A line per experiment, with its figures at each scale, or its table if it has no figure."""
    for title, of in groupby(figures, lambda found: f"{found.title} ({found.experiment})"):
        yield f"- {escaped(title)}: {'; '.join(f'{found.scale} {_files(found)}' for found in of)}"


def _files(figures: Figures) -> str:
    names = {figure.path: figure.name.removeprefix(f"{figures.experiment}_") for figure in figures.figures}
    if figures.table and not names:
        names = {figures.table: "table"}
    return ", ".join(f"[{escaped(name)}]({quote(path)})" for path, name in names.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cells)} |"
