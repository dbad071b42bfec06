"""Checks that a stored result is what the run wrote: its numbers against a schema and its metrics, and its hashes."""

import hashlib
import json
import math
import stat
from pathlib import Path
from typing import Any

from nfrepro import atomic
from nfrepro.errors import InputError
from nfrepro.runs.files import ERROR, METRICS, RECORD
from nfrepro.runs.lock import LOCK
from nfrepro.runs.progress import PROGRESS

SEAL = "seal"
# Files in the folder of a finished run that are not part of its result.
_NO_RESULT = (RECORD, ERROR, PROGRESS, LOCK)
# Columns of runs.csv that identify the run of a row, and so cannot be names of numbers.
RESERVED = frozenset({"id", "state", "in_experiment", "seed"})
# The column of the reason of a failure. Results from before it was reserved may have a number of this name.
RESERVED_NOW = RESERVED | {"error"}
_PERCENT = ("top1", "top5")
_REMEDY = "restore it, or redo the run with --force"


def seal(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """`record` with the SHA-256 of itself and of every result file of its run in `folder`."""
    bare = {key: value for key, value in record.items() if key != SEAL}
    files = {path.name: _hash(path.read_bytes()) for path in result_files(folder)}
    return {**bare, SEAL: {"record": _hash_of(bare), "files": files}}


def check_result(folder: Path, record: dict[str, Any], with_files: bool = True) -> None:
    """Raises `InputError`, naming the file, if the record of a finished run was edited or one of its files changed.

    Records from before there were seals are checked by their numbers alone. Without `with_files` only the record is
    checked, for a run whose other files are being moved to another folder.
    """
    path = folder / RECORD
    problem = _problem_of_numbers(record, RESERVED)
    if problem is None and with_files:
        problem = _problem_of_metrics(folder, record)
    if problem is not None:
        raise InputError(f"{path}: {problem}: {_REMEDY}")
    kept = record.get(SEAL)
    if kept is None:
        return
    bare = {key: value for key, value in record.items() if key != SEAL}
    if not isinstance(kept, dict) or kept.get("record") != _hash_of(bare):
        raise InputError(f"{path}: it was edited after the run: {_REMEDY}")
    for name, expected in sorted(kept["files"].items()) if with_files else ():
        try:
            found = _hash(atomic.read_bytes(folder / name))
        except OSError as error:
            raise InputError(f"{folder / name}: cannot be read ({error.strerror or error}): {_REMEDY}") from None
        if found != expected:
            raise InputError(f"{folder / name}: it was changed after the run: {_REMEDY}")


def result_files(folder: Path) -> list[Path]:
    """The files of a result except run.json, sorted by name, without those that only an unfinished run needs."""
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith((".", "checkpoint-", "cancel"))
        and path.name not in _NO_RESULT
        and stat.S_ISREG(path.lstat().st_mode)
    )


def check_new_result(folder: Path, record: dict[str, Any]) -> None:
    """Raises `InputError` if the result that a run has just given, in `record`, could not be read again."""
    problem = _problem_of_numbers(record, RESERVED_NOW) or _problem_of_metrics(folder, record)
    if problem is not None:
        raise InputError(f"the result cannot be stored: {problem}")


def _problem_of_numbers(record: dict[str, Any], reserved: frozenset[str]) -> str | None:
    """The problem with names and types of the final numbers, or with ranges of accuracies; None if there is none."""
    final = record.get("final")
    if not isinstance(final, dict):
        return f"final: expected a mapping, found {final!r:.40}"
    if not isinstance(record.get("provenance", {}), dict):
        return "provenance: expected a mapping"
    for name, value in final.items():
        if name in reserved or "." in name:
            return f"final.{name}: runs.csv has another column of this name"
        if not isinstance(value, str | bool | int | float | None):
            return f"final.{name}: expected a number, text or null"
        if isinstance(value, float) and not math.isfinite(value):
            return f"final.{name}: {value} is not finite"
        is_percent = any(part in name for part in _PERCENT)
        if is_percent and isinstance(value, int | float) and not 0.0 <= value <= 100.0:
            return f"final.{name}: {value:g} is not a percentage"
    return None


def _problem_of_metrics(folder: Path, record: dict[str, Any]) -> str | None:
    """The first final number of a completed run that the last row of its metrics contradicts; None if there is none."""
    path = folder / METRICS
    if record["status"] != "completed" or not path.exists():
        return None
    try:
        lines = atomic.read_bytes(path).splitlines()
        last = dict(json.loads(lines[-1])) if lines else {}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    expected = {**last, "top1": last.get("test_top1")}
    for name, value in record["final"].items():
        if name in expected and expected[name] != value and not (name == "top1" and expected[name] is None):
            return f"final.{name} is {value!r:.40}, but {expected[name]!r:.40} in the last row of {METRICS}"
    return None


def _hash_of(record: dict[str, Any]) -> str:
    return _hash(json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii"))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
