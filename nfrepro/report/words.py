"""The report's own words."""

from nfrepro.claims.claim import KnownFrom, Verdict

TITLE = "What the stored results say about the claims"
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
    """The verdict, or what is said of it in full, with its sign, so that no colour is needed."""
    return f"{SYMBOLS[verdict]} {words or verdict}"


def number(value: float) -> str:
    """As many digits as a reader can use."""
    return f"{value:.4g}"
