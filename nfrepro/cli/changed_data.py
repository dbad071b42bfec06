"""Tells before a sweep with nothing to run whether the data are still those with which stored runs were made."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from nfrepro.data.fingerprints import TooLarge, title, todays_fingerprint
from nfrepro.data.options import DataOptions
from nfrepro.errors import InputError, first_three
from nfrepro.runs import store
from nfrepro.specs import Run
from nfrepro.tasks.registry import TASKS

# Fingerprints of the data on this machine, in the folder of the results.
MEMORY = ".data-fingerprints.json"


def changed_data_lines(results: Path, done: Sequence[Run]) -> Iterator[str]:
    """A line for each data set that changed since runs of `done` were stored, or that cannot be compared."""
    by_data: dict[str, list[tuple[Run, str]]] = defaultdict(list)
    for run in done:
        record = store.read_record(store.run_folder(results, run)) or {}
        if stored := (record.get("provenance") or {}).get("data_fingerprint"):
            by_data[json.dumps([run.task, run.config["data"]], sort_keys=True)].append((run, str(stored)))
    for runs in by_data.values():
        yield from _lines(_data_options(runs[0][0]), runs, results / MEMORY)


def _lines(options: DataOptions, runs: Sequence[tuple[Run, str]], memory: Path) -> Iterator[str]:
    try:
        today = todays_fingerprint(options, memory)
    except TooLarge:
        yield f"{title(options)}: not compared with the data of the stored runs: too large to look through here"
        return
    except InputError as error:
        yield f"{title(options)}: not the data of the stored runs any more: {error}"
        return
    ids: dict[str, list[str]] = defaultdict(list)
    for run, stored in runs:
        ids[stored].append(run.id)
    for stored, names in ids.items():
        if today is not None and stored != today:
            then = f"{stored} in {len(names)} stored run{'' if len(names) == 1 else 's'}: {first_three(names)}"
            yield f"{title(options)} changed since: fingerprint {today} today, {then}"


def _data_options(run: Run) -> DataOptions:
    options: DataOptions = TASKS[run.task].options.model_validate(run.config).data  # type: ignore[attr-defined]
    return options
