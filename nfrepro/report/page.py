"""report.html, the report as a self-contained page without network access or scripts."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nfrepro.claims.claim import Verdict
from nfrepro.report.effects import FARTHEST, STRIP_HEIGHT, STRIP_WIDTH
from nfrepro.report.interval_picture import HEIGHT, WIDTH
from nfrepro.report.reading import Report
from nfrepro.report.words import ERROR_RATE, EXPLANATION, SYMBOLS, TITLE, counted, verdict_text
from nfrepro.terminal import printable


def page(report: Report) -> str:
    """The whole page, in which the words of claims and results are always text, never markup."""
    return (
        environment()
        .get_template("page.html")
        .render(
            report=report,
            title=TITLE,
            explanation=EXPLANATION,
            error_rate=ERROR_RATE,
        )
    )


def environment() -> Environment:
    """The templates of this folder, with the words and sizes that they share."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {"kind": _kind, "signed": verdict_text, "counted": counted}
    templates.globals |= {
        "verdicts": list(SYMBOLS),
        "interval_size": (WIDTH, HEIGHT),
        "strip_size": (STRIP_WIDTH, STRIP_HEIGHT),
        "farthest": round(FARTHEST),
    }
    return templates


def _printable(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _kind(verdict: Verdict) -> str:
    """The verdict as the name of a style."""
    return verdict.replace(" ", "-")
