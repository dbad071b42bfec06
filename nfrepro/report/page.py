"""report.html: the report as one page that needs nothing else, neither network nor scripts."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nfrepro.claims.claim import Verdict
from nfrepro.report.interval_picture import HEIGHT, WIDTH
from nfrepro.report.reading import Report
from nfrepro.report.words import ERROR_RATE, EXPLANATION, SYMBOLS, TITLE, verdict_text


def page(report: Report) -> str:
    """The whole page. Whatever claims and results say is text in it, never markup."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {"kind": _kind, "signed": verdict_text}
    return templates.get_template("page.html").render(
        report=report,
        title=TITLE,
        explanation=EXPLANATION,
        error_rate=ERROR_RATE,
        verdicts=list(SYMBOLS),
        width=WIDTH,
        height=HEIGHT,
    )


def _kind(verdict: Verdict) -> str:
    """As the name of a style."""
    return verdict.replace(" ", "-")
