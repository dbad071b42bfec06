"""The report's files, written into the folder of the results."""

from pathlib import Path

from nfrepro import atomic
from nfrepro.report.claims_json import claims_json
from nfrepro.report.markdown import markdown
from nfrepro.report.page import page
from nfrepro.report.reading import Report
from nfrepro.report.verdicts_picture import verdicts_picture
from nfrepro.report.words import VERDICTS

CLAIMS, MARKDOWN, PAGE = "claims.json", "REPORT.md", "report.html"


def write_claims(report: Report, results: Path) -> Path:
    """Write claims.json and return its path."""
    return _write(results / CLAIMS, claims_json(report))


def write_report(report: Report, results: Path) -> list[Path]:
    """Write all four files, after making the content of all, and return their paths."""
    texts = {
        CLAIMS: claims_json(report),
        MARKDOWN: markdown(report),
        PAGE: page(report),
        VERDICTS: verdicts_picture(report),
    }
    return [_write(results / name, text) for name, text in texts.items()]


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, text)
    return path
