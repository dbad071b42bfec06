"""REPORT.md, the report for a forge, with links to the figures in results/."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from nfrepro.report.cards import Card, Finding, Reading
from nfrepro.report.figures import Figures
from nfrepro.report.reading import Part, Report
from nfrepro.report.words import ERROR_RATE, EXPLANATION, SYMBOLS, TITLE, VERDICTS, counted, verdict_text
from nfrepro.terminal import printable

# Characters that Markdown takes for markup: anywhere, and at the start of a line.
_MARKS = re.compile(r"([\\`*\[\]|~$]|<(?=[A-Za-z/!?])|(?<![^\W_])_|_(?![^\W_]))")
_AT_THE_START = re.compile(r"^((?=[#>+=-])|\d+(?=[.)](\s|$)))")


def markdown(report: Report) -> str:
    """The whole document."""
    return printable("\n".join(_lines(report)) + "\n")


def escaped(text: str) -> str:
    """The same text in one line, with nothing in it that Markdown takes for markup."""
    line = _MARKS.sub(r"\\\1", " ".join(text.replace("&", "&amp;").split()))
    return _AT_THE_START.sub(r"\1\\", line)


def _lines(report: Report) -> Iterator[str]:
    yield from (f"# {TITLE}", "", *_answer(report), "")
    if report.parts:
        yield from ("## The paper's figures and tables, and ours", "")
        yield from _table(["in the paper", "ours", "claims"], map(_part, report.parts))
        yield ""
    yield from ("## Claims", "")
    series = ""
    for group in report.groups:
        if group.series != series:
            series = group.series
            yield from (escaped(series), "")
        yield from (f"**{escaped(group.section.title)}**", "")
        yield from _table(
            ["claim", "statement", "verdict", "ours, 95 % interval", "n", "scale"], map(_row, group.cards)
        )
        yield ""
    yield from _numbers(report)
    yield from ("", "## How to read this", "", EXPLANATION, "", ERROR_RATE, "", "## Claim by claim")
    for card in report.cards:
        yield from _card(card, report)
    yield from ("", "## Figures and tables", "")
    yield from _table(["experiment", "scale", "figures and tables"], map(_figures, report.figures))


def _answer(report: Report) -> Iterator[str]:
    yield f"**Of {len(report.cards)} claims: {counted(report.tally())}.**"
    yield from (f"{escaped(name)}: {counted(tally)}." for name, tally in report.tally_by_series)
    contradicted = [f"{_link(card)} {escaped(card.statement)}" for card in report.cards if _is_contradicted(card)]
    if contradicted:
        yield from ("", "Contradicted:", "", *(f"- {line}" for line in contradicted))
    yield from ("", f"![Every claim's effect against the bound of its rule]({VERDICTS})")


def _is_contradicted(card: Card) -> bool:
    return card.best.verdict == "contradicted"


def _link(card: Card) -> str:
    return f"[{card.id}](#{card.id.lower()})"


def _part(part: Part) -> list[str]:
    claims = (f"{_link(card)} {SYMBOLS[card.best.verdict]}" for card in part.cards)
    return [escaped(part.part.title), f"[{part.figures.scale}]({quote(part.figure.path)})", ", ".join(claims)]


def _row(card: Card) -> list[str]:
    best, found = card.best, card.found
    return [
        _link(card),
        escaped(card.statement),
        verdict_text(best.verdict, best.words),
        _ours(found) if found else "",
        str(found.n) if found else "",
        best.scale if best.findings else "",
    ]


def _numbers(report: Report) -> Iterator[str]:
    yield from ("## In numbers", "")
    if report.found:
        yield from ("What was found, with 95 % intervals over seeds:", "")
        yield from (f"- [{claim}](#{claim.lower()}) {escaped(text)}" for claim, text in report.found)
        yield ""
    yield from _table(["verdict", "claims", "of them exact", *(f"at {s}" for s in report.scales)], _tally(report))


def _tally(report: Report) -> Iterator[list[str]]:
    for verdict in SYMBOLS:
        counts = [report.tally(), report.exact, *map(report.tally, report.scales)]
        yield [verdict_text(verdict), *(str(count[verdict]) for count in counts)]


def _card(card: Card, report: Report) -> Iterator[str]:
    yield from ("", f"### {card.id}", "", f"**{escaped(card.statement)}**", "")
    yield f"Source: {escaped(card.source)}; stated by: {escaped(card.stated_by)}; known from: {card.known_from}."
    if card.note:
        yield f"Note: {escaped(card.note)}"
    if card.paper:
        yield from ("", f"Paper: {escaped(card.paper)}")
    if card.was:
        yield from ("", f"Was: {escaped(card.was)}")
    yield from ("", _verdict(card.best), "")
    if card.best.findings:
        yield f"- {_test(card.best.findings[0])}"
        yield from _more(card.best.findings[1:])
    for heading, text in card.best.remarks:
        yield f"- {heading}: {escaped(text)}"
    if card.best.commands:
        cost = f" ({card.best.cost} for all runs)" if card.best.cost else ""
        yield f"- Reproduce: {', then '.join(f'`{command}`' for command in card.best.commands)}{cost}"
    if figures := report.figures_of(card.best):
        yield f"- Figures and tables: {', '.join(map(_files, figures))}"
    for reading in card.readings[1:]:
        numbers = [f": {_ours(of)}, n = {of.n}" for of in reading.findings[:1] if of.estimate]
        yield f"- Otherwise: {_verdict(reading)}{''.join(numbers)}"


def _verdict(reading: Reading) -> str:
    share, reason = (reading.share and f" ({reading.share})"), (reading.reason and f": {escaped(reading.reason)}")
    where = f" at scale {reading.scale}" if reading.findings else ""
    return f"**{verdict_text(reading.verdict, reading.words)}**{where}{share}{reason}"


def _test(finding: Finding) -> str:
    runs = f" ({escaped(finding.runs_meant)})" if finding.runs_meant else ""
    n = f", n = {finding.n}" if finding.n else ""
    ours = f"**{_ours(finding)}**{n}" if finding.estimate else escaped(finding.method)
    said = "".join(f" ({escaped(text)})" for text in (finding.remark, finding.note) if text)
    return f"{escaped(finding.experiment)}{runs}: {escaped(finding.question)}: {ours}{said}"


def _more(findings: Sequence[Finding]) -> Iterator[str]:
    """The other tests, counted: report.html has each."""
    tally = Counter(finding.verdict for finding in findings)
    if findings:
        yield f"- {len(findings)} more test{'s' if len(findings) > 1 else ''}: {counted(tally)}"


def _ours(finding: Finding) -> str:
    return f"{finding.estimate} {finding.interval or '(exact)'}"


def _figures(figures: Figures) -> list[str]:
    return [f"{escaped(figures.title)} ({figures.experiment})", figures.scale, _files(figures)]


def _files(figures: Figures) -> str:
    links = [f"[{escaped(figure.name)}]({quote(figure.path)})" for figure in figures.figures]
    return ", ".join([*links, f"[table]({quote(figures.table)})"] if figures.table else links)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cells)} |"
