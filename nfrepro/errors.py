"""Errors in the user's input, each in one line. Every package may import this; no torch."""

import difflib
from collections.abc import Iterable, Sequence


class InputError(ValueError):
    """A bad experiment file, option, data set or call; the command line exits 2.

    The message is one line: what is wrong, where, what to do.
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean X?` for the closest of `known`, or an empty string if none is close."""
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f", did you mean {nearest[0]}?" if nearest else ""


def first_three(problems: Sequence[str]) -> str:
    """The first three of `problems` in one line, and how many more there are."""
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return "; ".join(problems[:3]) + more
