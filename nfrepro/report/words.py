"""The report's own words."""

from nfrepro.claims.claim import KnownFrom
from nfrepro.claims.verdicts import Verdict

TITLE = "What the stored results say about the claims"
EXPLANATION = (
    "A claim is supported if every one of its tests is, beyond chance, and contradicted if one of them is. It is "
    "inconclusive if chance may have made the difference, and not run if runs are missing, fewer than two seeds are "
    "there, or nothing here can test it. Every verdict holds at its scale: below scale paper, networks train on less "
    "data, are smaller and train for less long."
)
SYMBOLS: dict[Verdict, str] = {"supported": "✓", "contradicted": "✗", "inconclusive": "?", "not run": "○"}
KNOWN_FROM: dict[KnownFrom, str] = {
    "authors": "the authors' code or figures",
    "second_paper": "the authors' second paper",
    "others": "others' summaries and copies",
    "computed": "our computation",
    "nowhere": "nowhere",
}


def verdict_text(verdict: Verdict) -> str:
    """With its sign, so that no colour is needed."""
    return f"{SYMBOLS[verdict]} {verdict}"


def number(value: float) -> str:
    """As many digits as a reader can use."""
    return f"{value:.4g}"
