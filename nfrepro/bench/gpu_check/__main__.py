"""`python -m nfrepro.bench.gpu_check`: runs the checks, printing each fact as a line of JSON as it is found.

`--page DOCS` writes them into that folder, too: as gpu_facts.jsonl, and as the page gpu.md.
"""

import argparse
import json
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from nfrepro import atomic
from nfrepro.bench.gpu_check.page import page, read

SECONDS = 530.0
FACTS = "gpu_facts.jsonl"


class Late(BaseException):
    """A check has used up its time. No `except Exception` of a check swallows it."""


def main() -> None:
    """Checks one GPU. A check that fails or takes too long does not affect the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--only", default="", help="comma-separated names of checks")
    parser.add_argument("--out", type=Path, default=Path("gpu_check.jsonl"))
    parser.add_argument("--page", type=Path, help="folder to write gpu.md and its facts to")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    arguments = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        sys.exit("nfrepro: gpu-check needs an NVIDIA GPU that torch can use, and there is none here")
    from nfrepro.bench.gpu_check.checks import CHECKS

    begun = time.monotonic()
    signal.signal(signal.SIGALRM, _late)
    chosen = arguments.only.split(",") if arguments.only else list(CHECKS)
    with arguments.out.open("w", encoding="utf-8") as out:
        for name in chosen:
            left = arguments.seconds - (time.monotonic() - begun)
            if left < 8:
                _say(out, begun, name, left_out="no time was left")
                continue
            _check(out, begun, name, int(min(CHECKS[name].seconds, left)), arguments.device)
    if arguments.page is not None:
        write_page(arguments.page, arguments.out)


def write_page(docs: Path, facts: Path) -> None:
    """Write gpu.md into `docs`, and next to it the facts that it is made from."""
    atomic.write_text(docs / FACTS, facts.read_text(encoding="utf-8"))
    atomic.write_text(docs / "gpu.md", page(read(docs / FACTS), FACTS))


def _check(out: TextIO, begun: float, name: str, seconds: int, device: str) -> None:
    import torch

    from nfrepro.bench.gpu_check.checks import CHECKS

    started = time.monotonic()
    signal.alarm(seconds)
    try:
        for fact in CHECKS[name].run(device):
            _say(out, begun, name, **fact)
    except Late:
        _say(out, begun, name, left_out=f"stopped after {seconds} s")
    except Exception:
        _say(out, begun, name, failed=traceback.format_exc()[-1500:])
    finally:
        signal.alarm(0)
    _say(out, begun, name, took=round(time.monotonic() - started, 1))
    torch.cuda.empty_cache()


def _say(out: TextIO, begun: float, check: str, **fact: Any) -> None:
    line = json.dumps({"at": round(time.monotonic() - begun, 1), "check": check, **fact}, default=str)
    print(line, flush=True)
    out.write(line + "\n")
    out.flush()


def _late(number: int, frame: FrameType | None) -> None:
    raise Late


if __name__ == "__main__":
    main()
