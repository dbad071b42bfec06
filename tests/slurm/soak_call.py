"""The call of a soak, from its options to its end. SLURM's and the local queue's share it."""

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

BEGAN = time.monotonic()


def parse_options(description: str, minutes: float, report: str) -> argparse.Namespace:
    """The options of the command line; `minutes` and `report` are defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, default=0, help="of the faults and their moments")
    parser.add_argument("--runs", type=int, default=200, help="how many, at least")
    parser.add_argument("--minutes", type=float, default=minutes, help="after which it gives up")
    parser.add_argument("--report", type=Path, default=Path(report), help="file that it is written to")
    return parser.parse_args()


def say(text: str) -> None:
    print(f"{time.monotonic() - BEGAN:4.0f} s  {text}", file=sys.stderr, flush=True)


def conclude(text: str, wrong: Sequence[str], report: Path, folder: Path) -> int:
    """Write the report and return the exit status; remove the files of a soak that found nothing wrong."""
    print(text)
    report.write_text(text)
    if wrong:
        say(f"failed; all files are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def call(main: Callable[[], int]) -> NoReturn:
    """Execute `main`, and end as it says, or as a program that was interrupted."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
