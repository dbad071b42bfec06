"""Checkpoints of one run: atomic, checksummed, the newest two kept.

A file is named `checkpoint-<step>-<first 16 hex of the sha256 of its content>.pt`, so that one rename publishes content
and checksum together.
"""

import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nfrepro import atomic

KEPT = 2
RUN = "run"  # key in a state: the name of the folder, which is the id of the run
_NAME = re.compile(r"checkpoint-(\d{9})-([0-9a-f]{16})\.pt")


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Writes `state` (tensors, numbers, strings and containers of them) and its run; removes all but the newest two."""
    buffer = io.BytesIO()
    torch.save({**state, RUN: folder.name}, buffer)
    content = buffer.getvalue()
    path = folder / f"checkpoint-{step:09d}-{hashlib.sha256(content).hexdigest()[:16]}.pt"
    atomic.write_bytes(path, content)
    others = [other for other in _newest_first(folder) if other != path]
    for other in others[KEPT - 1 :]:
        other.unlink(missing_ok=True)
    return path


def read_newest(folder: Path, report: Callable[[str], None]) -> bytes | None:
    """The bytes of the newest checkpoint that can be read, for `parse`; None if there is none."""
    for path in _newest_first(folder):
        content = atomic.read_bytes(path) if path.is_file() else None
        wrong = "not a regular file" if content is None else _what_is_wrong(path, content)
        if wrong is None:
            return content
        report(f"{path}: {wrong}, falling back to the checkpoint before it")
    return None


def _what_is_wrong(path: Path, content: bytes) -> str | None:
    """The fault of a checkpoint's content; None if it is intact and of the run whose folder it is in."""
    match = _NAME.fullmatch(path.name)
    if match is None or hashlib.sha256(content).hexdigest()[:16] != match[2]:
        return "checksum does not match"
    try:
        run = parse(content).get(RUN)
    except Exception as error:  # torch.load raises errors of many classes
        return f"cannot be parsed ({type(error).__name__})"
    return None if run in (None, path.parent.name) else f"it is of another run, {run}"


def parse(content: bytes) -> dict[str, Any]:
    """The state in the content of a checkpoint, on the CPU."""
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def remove(folder: Path) -> None:
    """Removes every checkpoint of a finished run."""
    for path in _newest_first(folder):
        path.unlink(missing_ok=True)


def _newest_first(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("checkpoint-*.pt") if _NAME.fullmatch(path.name)), reverse=True)
