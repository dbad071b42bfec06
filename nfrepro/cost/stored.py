"""The time that stored runs took."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nfrepro.cost.machine import Machine
from nfrepro.runs import store
from nfrepro.runs.provenance import versions
from nfrepro.specs import Run


@dataclass(frozen=True)
class StoredTime:
    """The time of runs of a task other than `train`."""

    runs: int
    seconds_per_run: float


@dataclass(frozen=True)
class StoredRate:
    """The training images per second of stored runs, each together with the runs executed at the same time."""

    runs: int
    images_per_second: float


def stored_time(runs: Sequence[Run], results: Path) -> StoredTime | None:
    """The time of those of `runs` that ended after one execution; None if there are none."""
    seconds = []
    for run in runs:
        record = store.read_record(store.run_folder(results, run)) or {}
        if record.get("status") in store.DONE and record["executions"] == 1:
            begun, ended = (datetime.fromisoformat(record[key]) for key in ("started", "finished"))
            seconds.append((ended - begun).total_seconds())
    return StoredTime(len(seconds), statistics.mean(seconds)) if seconds else None


def stored_rate(runs: Sequence[Run], results: Path, machine: Machine) -> StoredRate | None:
    """The rate of those of `runs` that are stored and were trained on such a machine with the current versions.

    All of one shape. None if there are none.
    """
    images, seconds = [], []
    for run in runs:
        record = store.read_record(store.run_folder(results, run)) or {}
        final = record.get("final") or {}
        trained = record.get("status") in store.DONE and final.get("train_seconds")
        if trained and _made_on(record["provenance"], machine):
            images.append(final["steps"] * run.config["train"]["batch_size"])
            seconds.append(final["train_seconds"])
    return StoredRate(len(seconds), sum(images) / sum(seconds)) if seconds else None


def _made_on(provenance: dict[str, Any], machine: Machine) -> bool:
    on_cpu = provenance.get("device") == "cpu"
    name = provenance.get("processor") if on_cpu else provenance.get("device")
    return (
        provenance.get("versions") == versions()
        and on_cpu == (machine.type == "cpu")
        and machine.name in (None, name)
        and provenance.get("processes") == machine.processes
        and (not on_cpu or provenance.get("threads") == machine.threads_per_process)
    )
