"""Writes run.json while a run executes: when it starts, completes or fails."""

import errno
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nfrepro.launch.device_errors import is_of_device
from nfrepro.runs import store
from nfrepro.runs.integrity import check_new_result, seal
from nfrepro.runs.provenance import provenance
from nfrepro.specs import Run
from nfrepro.tasks.base import Outcome

# Errors that are the machine's fault: the run is not marked as failed, and the next sweep continues it.
MACHINE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM}


@dataclass(frozen=True)
class Failure:
    """A failure in one line, and its traceback."""

    text: str
    traceback: str
    of_machine: bool

    @staticmethod
    def of(error: Exception) -> "Failure":
        """The failure described by the exception that is being handled."""
        # File names that are not UTF-8 are escaped: otherwise they could be neither stored nor printed.
        reason = (str(error).encode("utf-8", "backslashreplace").decode().splitlines() or [""])[0]
        text = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        return Failure(text, traceback.format_exc(), is_of_machine(error))


def is_of_machine(error: Exception) -> bool:
    """Whether the machine is to blame, not the run."""
    return (isinstance(error, OSError) and error.errno in MACHINE_ERRORS) or is_of_device(error)


def begin(
    run: Run, folder: Path, processes: int, earlier: dict[str, Any] | None, is_kept: bool = False
) -> dict[str, Any]:
    """Write the record of a run that `processes` processes start or continue, and return it.

    `is_kept`: whether this redoes a run that git sees; the new result then stays visible at any scale.
    """
    earlier = earlier or {}
    record = {
        "version": store.RECORD_VERSION,
        **store.description_of(run),
        "status": "running",
        "started": earlier.get("started", _now()),
        "finished": None,
        "executions": earlier.get("executions", 0) + 1,
        "final": None,
        "error": None,
        "provenance": provenance() | {"processes": processes},
    }
    if run.scale == store.UNKEPT_SCALE and not earlier and not is_kept:
        store.hide_from_git(folder)
    store.write_record(folder, record)
    return record


def complete(folder: Path, record: dict[str, Any], outcome: Outcome) -> None:
    """Writes the outcome of the run into its record, and seals the result.

    Raises `InputError` for one that could not be read again, as that of own code may be.
    """
    finished = record | {
        "status": outcome.status,
        "finished": _now(),
        "final": outcome.final,
        "provenance": {**record["provenance"], **outcome.provenance},
    }
    check_new_result(folder, finished)
    store.write_record(folder, seal(folder, finished))


def fail(folder: Path, record: dict[str, Any], failure: Failure) -> str:
    """Writes why the run failed, and its traceback. Returns the failure in one line."""
    log = store.write_error(folder, failure.traceback)
    store.write_record(folder, record | {"status": "failed", "finished": _now(), "error": failure.text})
    return f"{failure.text} ({log})"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
