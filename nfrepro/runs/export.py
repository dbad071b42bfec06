"""Export of stored runs to the tools that researchers use: tidy CSV, TensorBoard, offline Weights & Biases.

Stored runs remain the source of truth: an export is made from metrics.jsonl and run.json alone; nothing is uploaded.
"""

import csv
import importlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from nfrepro import atomic
from nfrepro.errors import InputError
from nfrepro.runs import store
from nfrepro.runs.table import flatten
from nfrepro.specs import Run

COLUMNS = ("run", "experiment", "scale", "seed", "step", "epoch", "metric", "value")


@dataclass(frozen=True)
class StoredRun:
    """A finished run: its record, and the rows of its metrics, in order of steps."""

    record: dict[str, Any]
    rows: tuple[dict[str, Any], ...]

    @property
    def id(self) -> str:
        return str(self.record["id"])

    @property
    def final(self) -> dict[str, float]:
        """The numbers among the final values."""
        return _numbers(self.record["final"] or {})


def stored_runs(runs: Sequence[Run], results: Path) -> list[StoredRun]:
    """The finished runs among `runs`. Raises `InputError` for a damaged record, and if no run is done."""
    found = []
    for run in runs:
        folder = store.run_folder(results, run)
        stored = store.read(folder, run)
        if stored.state in store.DONE and stored.record is not None:
            found.append(StoredRun(stored.record, tuple(metrics_with_steps(folder))))
    if not found:
        raise InputError(f"{runs[0].experiment} at scale {runs[0].scale}: no run is done yet: nothing to export")
    return found


def metrics_with_steps(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl; a row that a user's own code wrote without a step has its number as the step."""
    rows = store.read_metrics(folder)
    return [row if type(row.get("step")) is int else row | {"step": number} for number, row in enumerate(rows)]


def export_csv(runs: Sequence[StoredRun], out: Path) -> Path:
    """Write `out`/metrics.csv, a row per run, step and metric; final values have no step."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run in runs:
        front = (run.id, run.record["experiment"], run.record["scale"], run.record["config"].get("seed", ""))
        for row in run.rows:
            places = (*front, row["step"], row.get("epoch", ""))
            writer.writerows((*places, *pair) for pair in _metrics(row).items())
        writer.writerows((*front, "", "", f"final.{name}", value) for name, value in run.final.items())
    out.mkdir(parents=True, exist_ok=True)
    path = out / "metrics.csv"
    atomic.write_text(path, buffer.getvalue())
    return path


def export_tensorboard(runs: Sequence[StoredRun], out: Path) -> Path:
    """Write an event file per run, `out`/<run id>/; options and final numbers are its hyperparameters and metrics.

    Raises `InputError` without the package tensorboard.
    """
    for run in runs:
        with EventFile(out / run.id) as events:
            events.add_options(run.id, run.record["config"])
            for row in run.rows:
                events.add(row)
            last = run.rows[-1]["step"] if run.rows else 0
            events.add({"step": last, **{f"final/{name}": value for name, value in run.final.items()}})
    return out


def export_wandb(runs: Sequence[StoredRun], out: Path) -> Path:
    """Write an offline run of Weights & Biases per run, below `out`/wandb/; `wandb sync` would upload them.

    Raises `InputError` without the package wandb.
    """
    wandb = optional("wandb", "wandb")
    out.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(mode="offline", silent=True, console="off", disable_git=True, disable_code=True)
    for run in runs:
        session = wandb.init(
            project="nfrepro",
            group=f"{run.record['experiment']}-{run.record['scale']}",
            name=run.id,
            id=run.id.rpartition("-")[2],
            config=run.record["config"],
            dir=str(out),
            settings=settings,
        )
        for row in run.rows:
            session.log(_metrics(row), step=row["step"])
        session.summary.update(run.final)
        session.finish()
    return out / "wandb"


EXPORTS = {"csv": export_csv, "tensorboard": export_tensorboard, "wandb-offline": export_wandb}


class EventFile:
    """TensorBoard's events of one run, in a separate folder; earlier ones in it are replaced."""

    def __init__(self, folder: Path) -> None:
        self.events = optional("tensorboard.compat.proto.event_pb2", "tensorboard")
        self.summaries = optional("tensorboard.compat.proto.summary_pb2", "tensorboard")
        writer = optional("tensorboard.summary.writer.event_file_writer", "tensorboard")
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self.writer = writer.EventFileWriter(str(folder))

    def __enter__(self) -> "EventFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.writer.close()

    def add(self, row: dict[str, Any]) -> None:
        """Add the numbers of a row of metrics at its step, with its seconds of training as the wall time."""
        values = [self.summaries.Summary.Value(tag=name, simple_value=value) for name, value in _metrics(row).items()]
        self._write(self.summaries.Summary(value=values), row["step"], row.get("train_seconds", 0.0))

    def add_options(self, name: str, config: dict[str, Any]) -> None:
        """Add the options of a run as TensorBoard's hyperparameters."""
        summary = optional("tensorboard.plugins.hparams.summary_v2", "tensorboard")
        flat = flatten(config).items()
        texts = {key: value if isinstance(value, int | float) else str(value) for key, value in flat}
        self._write(summary.hparams_pb(texts, trial_id=name), 0, 0.0)

    def flush(self) -> None:
        """Make what was added visible to a running TensorBoard."""
        self.writer.flush()

    def _write(self, summary: Any, step: int, seconds: float) -> None:
        self.writer.add_event(self.events.Event(wall_time=seconds, step=step, summary=summary))


def _metrics(row: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in _numbers(row).items() if name not in ("step", "epoch")}


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if type(value) in (int, float)}


def optional(module: str, package: str) -> ModuleType:
    """Imports the module of an optional package. Raises an `InputError` that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"this export needs the package {package} ({error}): pip install 'nfrepro[{package}]'"
        ) from None
