"""Which tables list a run: it is stored once, and may be in those of several experiments."""

import csv
from collections import defaultdict
from pathlib import Path


def tables_by_run(results: Path) -> dict[str, list[Path]]:
    """The tables of all experiments, scales and overrides, by the id of a run."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(results.glob("*/*/runs*.csv")):
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            for row in csv.DictReader(file):
                found[row.get("id") or ""].append(path)
    return found
