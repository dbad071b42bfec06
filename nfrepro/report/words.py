"""The fixed texts of the report."""

from collections.abc import Mapping

from nfrepro.claims.claim import KnownFrom, Verdict

TITLE = "What the stored results say about the claims"
VERDICTS = "verdicts.svg"  # the picture of all claims, in the folder of the results
EXPLANATION = (
    "Each claim is judged at the largest scale that can test it; the results at other scales follow. A claim is "
    "supported if every one of its tests is supported beyond chance, and contradicted if any one is contradicted "
    "beyond chance; a claim that needs only one of its tests is supported by any, and contradicted by all. It is "
    "inconclusive if the result may be due to chance, not testable if a control fails (for example, if the network "
    "with BatchNorm does not train), and not run if runs are missing, if there are fewer than two seeds, or if nothing "
    "here can test it. Below scale paper, networks are smaller and are trained on less data and for fewer steps."
)
ERROR_RATE = (
    "With a probability of at least 95 %, no verdict in this list is wrong by chance: the error rates of supported and "
    "of contradicted verdicts are each held to 2.5 % over all claims, by Holm's procedure with the planned looks. This "
    "does not cover exact verdicts (on deterministic computations), facts, or the results at other scales."
)
SYMBOLS: dict[Verdict, str] = {
    "supported": "✓",
    "contradicted": "✗",
    "inconclusive": "?",
    "not testable": "–",
    "fact": "•",
    "not run": "○",
}
KNOWN_FROM: dict[KnownFrom, str] = {
    "authors": "the authors' code or figures",
    "second_paper": "the authors' second paper",
    "others": "others' summaries and copies",
    "computed": "our computation",
    "nowhere": "nowhere",
}


def verdict_text(verdict: Verdict, words: str = "") -> str:
    """The verdict, or its full `words`, with its symbol, so that no colour is needed."""
    return f"{SYMBOLS[verdict]} {words or verdict}"


def number(value: float) -> str:
    """A number with four significant digits."""
    return f"{value:.4g}"


def counted(tally: Mapping[Verdict, int]) -> str:
    """The counts of verdicts in a phrase: `32 supported, 5 contradicted and 15 inconclusive`."""
    parts = [f"{tally[verdict]} {verdict}" for verdict in SYMBOLS if tally.get(verdict)]
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else "none"
