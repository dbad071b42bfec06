"""Two stores side by side: the same runs, by id, and the same arms, which are runs that differ only in their seed."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from nfrepro.runs import store
from nfrepro.runs.final_numbers import result_numbers
from nfrepro.specs import Run
from nfrepro.specs.varied import varied_options

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Side:
    """A run in one store."""

    state: store.State
    numbers: Numbers  # final numbers without measures of speed; empty unless the run is completed
    processor: str | None
    device: str | None
    threads: int | None


@dataclass(frozen=True)
class RunPair:
    """A run in both stores; `there` is None without a second store."""

    id: str
    varied: str  # options that distinguish it from runs of the same name
    here: Side
    there: Side | None
    difference: Numbers  # there - here, for the numbers that both have


@dataclass(frozen=True)
class Mean:
    """The mean over the completed runs of an arm."""

    n: int
    numbers: Numbers


@dataclass(frozen=True)
class ArmPair:
    """An arm in both stores. Its difference is the mean over the `n_both` runs that are completed in both."""

    name: str
    varied: str
    here: Mean
    there: Mean | None
    n_both: int
    difference: Numbers


@dataclass(frozen=True)
class Comparison:
    """All runs of an experiment at one scale, and its arms."""

    runs: tuple[RunPair, ...]
    arms: tuple[ArmPair, ...]


def compare(runs: Sequence[Run], here: Path, there: Path | None) -> Comparison:
    """Compares `runs` in two stores, which are folders of results. Raises `InputError` for a damaged record."""
    varied = varied_options(runs)
    pairs = {run.id: _pair(run, varied[run.id], here, there) for run in runs}
    arms: dict[str, list[Run]] = {}
    for run in runs:
        config = {key: value for key, value in run.config.items() if key != "seed"}
        arms.setdefault(json.dumps(config, sort_keys=True), []).append(run)
    return Comparison(
        tuple(pairs.values()), tuple(_arm(own[0], [pairs[run.id] for run in own]) for own in arms.values())
    )


def _pair(run: Run, varied: str, here: Path, there: Path | None) -> RunPair:
    one, other = _side(run, here), _side(run, there) if there is not None else None
    return RunPair(run.id, varied, one, other, _difference(one.numbers, other.numbers) if other else {})


def _side(run: Run, results: Path) -> Side:
    folder = store.run_folder(results, run)
    store.check_config(folder, run)
    stored = store.read(folder, run)
    record = stored.record or {}
    source = record.get("provenance") or {}
    numbers = result_numbers(record.get("final") or {}) if stored.state == "completed" else {}
    return Side(stored.state, numbers, *(source.get(key) for key in ("processor", "device", "threads")))


def _arm(first: Run, pairs: Sequence[RunPair]) -> ArmPair:
    both = [pair for pair in pairs if pair.difference]
    there = [pair.there for pair in pairs if pair.there is not None]
    return ArmPair(
        re.sub(r"-seed\d+$", "", first.id.rpartition("-")[0]),
        pairs[0].varied,
        _mean([pair.here for pair in pairs]),
        _mean(there) if there else None,
        len(both),
        _means(pair.difference for pair in both),
    )


def _mean(sides: Sequence[Side]) -> Mean:
    completed = [side.numbers for side in sides if side.state == "completed"]
    return Mean(len(completed), _means(completed))


def _means(numbers: Iterable[Numbers]) -> Numbers:
    """The mean of each number that all of `numbers` contain."""
    found = list(numbers)
    common = [name for name in found[0] if all(name in other for other in found)] if found else []
    return {name: fmean(one[name] for one in found) for name in common}


def _difference(one: Numbers, other: Numbers) -> Numbers:
    return {name: other[name] - value for name, value in one.items() if name in other}
