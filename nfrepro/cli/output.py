"""Lines and counts that several verbs print."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any, NoReturn

from nfrepro.terminal import one_line


def count_by_state(states: Sequence[str]) -> str:
    return f"{runs_text(len(states))}: {_tally(states)}"


def runs_text(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _tally(words: Sequence[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in sorted(Counter(words).items()))


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False).replace("\x7f", "\\u007f"))  # json escapes all others


def complain(text: str, code: int) -> int:
    print(f"nfrepro: {one_line(text)}", file=sys.stderr)
    return code


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
