"""The cost of stored runs."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from nfrepro.runs.store import DONE, read_record, runs_folder
from nfrepro.runs.table import read_table, table_path


class Costs:
    """The time of the runs below one folder of results. Each table and each record is read once."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._ids: dict[tuple[str, str], list[str]] = {}
        self._hours: dict[str, tuple[str, float] | None] = {}

    def text(self, experiments: Iterable[str], scale: str) -> str:
        """The hours that the runs of `experiments` at `scale` took, each run counted once; empty if unknown.

        Raises `InputError` for a record that cannot be read.
        """
        return self._sum({name for experiment in experiments for name in self._runs(experiment, scale)})

    def stored(self) -> dict[str, str]:
        """The hours of all stored runs by scale, also of those that no experiment asks for any more."""
        names: dict[str, set[str]] = {}
        for folder in sorted(runs_folder(self._results).iterdir()):
            record = read_record(folder)
            if record is not None and record["status"] in DONE:
                names.setdefault(record["scale"], set()).add(folder.name)
                self._hours[folder.name] = spent(record)
        return {scale: self._sum(of) for scale, of in names.items()}

    def _sum(self, names: set[str]) -> str:
        hours: dict[str, float] = {}
        for kind, spent in filter(None, map(self._spent, sorted(names))):
            hours[kind] = hours.get(kind, 0.0) + spent
        return " and ".join(f"{hours[kind]:.2g} {kind}-hours" for kind in ("core", "GPU") if kind in hours)

    def _runs(self, experiment: str, scale: str) -> list[str]:
        if (experiment, scale) not in self._ids:
            path = table_path(self._results, experiment, scale)
            table = read_table(path) if path.exists() else None
            done = [] if table is None else table.loc[table["state"].isin(DONE), "id"].astype(str).tolist()
            self._ids[experiment, scale] = done
        return self._ids[experiment, scale]

    def _spent(self, name: str) -> tuple[str, float] | None:
        if name not in self._hours:
            record = read_record(runs_folder(self._results) / name)
            self._hours[name] = None if record is None else spent(record)
        return self._hours[name]


def spent(record: dict[str, Any]) -> tuple[str, float] | None:
    """The kind of processor of a run, `core` or `GPU`, and its hours; None if its record does not say.

    The time of a training run is that spent on training, which interruptions do not lengthen; that of any other run
    is from its start to its end. Core-hours add up all its threads.
    """
    provenance = record.get("provenance") or {}
    seconds = (record.get("final") or {}).get("train_seconds")
    if seconds is None and record.get("started") and record.get("finished"):
        begin, end = (datetime.fromisoformat(record[name]) for name in ("started", "finished"))
        seconds = (end - begin).total_seconds()
    if seconds is None:
        return None
    if str(provenance.get("device") or "cpu").startswith("cpu"):
        return "core", seconds / 3600 * (provenance.get("threads") or 1)
    return "GPU", seconds / 3600
