"""Which tables list a run: it is stored once, and may be in those of several experiments."""

import csv
import io
from collections import defaultdict
from pathlib import Path

from nfrepro import atomic
from nfrepro.errors import InputError


def tables_by_run(results: Path) -> dict[str, list[Path]]:
    """The tables of all experiments, scales and overrides, by the id of a run. Raises `InputError` for no table."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(results.glob("*/*/runs*.csv")):
        try:
            text = atomic.read_bytes(path).decode("utf-8", errors="replace")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error}): move it away") from None
        for row in csv.DictReader(io.StringIO(text, newline="")):
            found[row.get("id") or ""].append(path)
    return found
