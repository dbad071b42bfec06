"""The fixed texts of the report."""

from collections.abc import Mapping

from nfrepro.claims.claim import KnownFrom, Verdict

TITLE = "What the stored results say about the claims"
VERDICTS = "verdicts.svg"  # the picture of all claims, in the folder of the results
EXPLANATION = (
    "Each claim is judged at the largest scale that can test it; what other scales say follows. A claim is supported "
    "if every one of its tests is, beyond chance, and contradicted if one of them is. It is inconclusive if chance may "
    "have made the difference, not testable where a control fails (the network with BatchNorm does not train, say), "
    "and not run if runs are missing, fewer than two seeds are there, or nothing here can test it. Below scale paper, "
    "networks are smaller and train on less data and for fewer steps."
)
ERROR_RATE = (
    "With a probability of at least 95 %, not one verdict in this list is wrong by chance: supported and contradicted "
    "are each held to 2.5 % over all claims, by Holm's procedure with the planned looks. Exact verdicts, of "
    "deterministic computations, and facts are outside it, and so is what other scales say."
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
