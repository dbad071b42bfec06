"""Run folders: `results/runs/<run id>/` with run.json and the other files of the task.

A run is identified by its config, so each is stored once, whichever experiments have it. The table and the figures of
an experiment are in `results/<experiment>/<scale>/`, which has no runs.

A run is done when its run.json is valid and says `completed` or `diverged`; nothing else counts. Every write is atomic.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from nfrepro import atomic, specs
from nfrepro.errors import InputError
from nfrepro.runs import cancellation, lock
from nfrepro.runs.files import ERROR as ERROR
from nfrepro.runs.files import METRICS as METRICS
from nfrepro.runs.files import RECORD as RECORD
from nfrepro.runs.files import REDO
from nfrepro.runs.integrity import check_result
from nfrepro.runs.lock import is_locked
from nfrepro.specs import SCHEMA_VERSION, Run, config_difference, identity, other_schema_version

RUNS = "runs"
RECORD_VERSION = 1
DONE = ("completed", "diverged")
# The runs of this scale show that things work, not what is true: they are hidden from git.
UNKEPT_SCALE = "smoke"
UNKEPT = ".gitignore"

State = Literal["missing", "running", "interrupted", "cancelled", "failed", "completed", "diverged"]


def scale_folder(results: Path, experiment: str, scale: str) -> Path:
    """The folder of the table and the figures of one experiment at one scale."""
    return results / experiment / scale


def runs_folder(results: Path) -> Path:
    """The folder of all runs, each in a subfolder named by its id."""
    return results / RUNS


def run_folder(results: Path, run: Run) -> Path:
    """The folder of `run`."""
    return runs_folder(results) / run.id


@dataclass(frozen=True)
class Stored:
    """The state of a run, from its folder."""

    folder: Path
    state: State
    record: dict[str, Any] | None  # run.json; None if there is none yet


def read(folder: Path, run: Run | None = None, work: Path | None = None) -> Stored:
    """The state of a folder, from its files alone. Raises `InputError` if run.json is damaged or edited by hand.

    It is `cancelled` if the sweep of `run` was, or without `run` if any sweep was. If `work` is given, the files are
    there, and `folder` has only the lock and the marks of cancelled sweeps.
    """
    work = work or folder
    record = read_record(work)
    return Stored(work, _state(folder, work, record, run), record)


def read_record(folder: Path) -> dict[str, Any] | None:
    """run.json, or None if there is none. Raises `InputError` if it is not a record of the run its folder names."""
    refuse_link(folder)
    path = folder / RECORD
    try:
        text = atomic.read_bytes(path).decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    try:
        record = json.loads(text)
        wrong = _what_is_wrong(record, folder.name)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(f"{path}: not a valid record: move its folder away, or redo the run with --force") from None
    if wrong is not None:
        raise InputError(f"{path}: {wrong}")
    if record["status"] in DONE:
        # The files of a complete redo move to the run's folder one by one, run.json last.
        check_result(folder, record, with_files=folder.parent.name != REDO)
    return dict(record)


def refuse_link(folder: Path) -> None:
    """Raises `InputError` if the folder of a run is a link: its target may be another run's, or no result."""
    if folder.is_symlink():
        raise InputError(f"{folder}: a link to {folder.readlink()}: replace it with its target, or remove it")


def _what_is_wrong(record: dict[str, Any], name: str) -> str | None:
    """The problem with a record in the folder `name`; None if it has the right run and version."""
    version = record.get("version", RECORD_VERSION)
    if version != RECORD_VERSION:
        return _of_another_version("record", version, RECORD_VERSION)
    config = id_config(record)
    found = identity(record["task"], config)
    if record["id"] == name and name.endswith(f"-{found}") and record["status"]:
        return None
    schema = other_schema_version(record["task"], config, name.rpartition("-")[2])
    if record["id"] == name and schema is not None:
        return _of_another_version("schema", schema, SCHEMA_VERSION)
    return (
        f"its config has identity {found}, but the folder is {name}: "
        "it was edited or moved; restore it, or redo the run with --force"
    )


def id_config(record: dict[str, Any]) -> dict[str, Any]:
    """The part of a record's config that is hashed into its id."""
    return specs.id_config(record["config"], record.get("outside_id", ()), record.get("old_names", {}))


def description_of(run: Run) -> dict[str, Any]:
    """The entries of a record that identify its run, without the folders of its code."""
    entries = {**asdict(run), "outside_id": list(run.outside_id)}
    del entries["code_folders"]
    return entries


def run_of(record: dict[str, Any]) -> Run:
    """The run that a record describes."""
    return Run(**{field.name: record[field.name] for field in fields(Run) if field.name in record})


def _of_another_version(what: str, found: object, read: int) -> str:
    remedy = "use the one that wrote it, or redo the run with --force"
    return f"{what} version {found!r:.20}; this nfrepro reads {read}: {remedy}"


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, oldest first; none if there is no such file."""
    return _parse_rows(folder, _metrics_lines(folder))


def newest_metrics(folder: Path) -> dict[str, Any] | None:
    """The last row of metrics.jsonl; None if there is none. Faster than parsing all rows."""
    rows = _parse_rows(folder, _metrics_lines(folder)[-1:])
    return rows[0] if rows else None


def _metrics_lines(folder: Path) -> list[bytes]:
    try:
        return atomic.read_bytes(folder / METRICS).splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"{folder / METRICS}: cannot be read: {error}") from None


def _parse_rows(folder: Path, lines: Sequence[bytes]) -> list[dict[str, Any]]:
    try:
        return [dict(json.loads(line)) for line in lines]
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{folder / METRICS}: cannot be read: {error}") from None


def check_config(folder: Path, run: Run) -> None:
    """Raises `InputError` with the difference if the record in `folder` has another config than `run`."""
    record = read_record(folder)
    if record is not None and id_config(record) != run.id_config:
        difference = "; ".join(config_difference(id_config(record), run.id_config))
        raise InputError(f"{folder / RECORD}: its config is not that of the run: {difference}")


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Writes run.json."""
    atomic.write_text(folder / RECORD, json.dumps(record, indent=1, allow_nan=False) + "\n")


def hide_from_git(folder: Path) -> None:
    """Hides from git a run that only a throwaway sweep wanted."""
    atomic.write_text(folder / UNKEPT, "*\n")


def is_kept(folder: Path) -> bool:
    """Whether there is a run in `folder` that is not hidden from git."""
    return (folder / RECORD).exists() and not (folder / UNKEPT).exists()


def show_to_git(folder: Path) -> None:
    """Undoes `hide_from_git`, for a run that is a result."""
    (folder / UNKEPT).unlink(missing_ok=True)


def write_error(folder: Path, traceback: str) -> Path:
    """Write the traceback of a failed run into its folder."""
    atomic.write_text(folder / ERROR, traceback)
    return folder / ERROR


def remove(folder: Path) -> None:
    """Removes a run. Its record goes first, so that whatever is left after a kill counts for nothing.

    Raises `InputError` if the folder is a link.
    """
    refuse_link(folder)
    (folder / RECORD).unlink(missing_ok=True)
    shutil.rmtree(folder)


def remove_half_written(folder: Path) -> None:
    """Removes incomplete files of processes that were killed. Call it with the folder's lock held."""
    lock.remove_unfinished(folder)
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _state(folder: Path, work: Path, record: dict[str, Any] | None, run: Run | None) -> State:
    if record is not None and record["status"] in DONE:
        return "completed" if record["status"] == "completed" else "diverged"
    if folder.is_dir() and is_locked(folder):
        return "running"
    if cancellation.is_cancelled(folder, run):
        return "cancelled"
    if record is not None and record["status"] == "failed":
        return "failed"
    return "interrupted" if work.is_dir() and any(work.iterdir()) else "missing"
