"""Summary of a sweep's stored results before it starts: how many, by whom, from when, and how to redo them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from nfrepro.runs import store
from nfrepro.specs import RENAMED, Run

MOST_NAMED = 2  # commits or processors; more are only counted


def stored_lines(results: Path, runs: Sequence[Run], done: Sequence[Run], left: int, failed: int) -> Iterator[str]:
    """`12 of 48 runs are stored already (figure_1: 10), 36 to run`; if all are done, also their origin."""
    rest = f"{left} to run" + (f", {failed} failed before (again with --retry)" if failed else "")
    others = trained_by_others(results, done)
    if len(done) < len(runs):
        verb = "is" if len(runs) == 1 else "are"
        yield f"{len(done)} of {_runs(len(runs))} {verb} stored already{_in_brackets(_tally(others))}, {rest}"
        return
    records = [record for run in done if (record := store.read_record(store.run_folder(results, run)))]
    results_of = "is a stored result of" if len(runs) == 1 else "are stored results of"
    source = ", ".join([_commits(records), *_named("processor", _processors(records)), *_tally(others)])
    yield f"{len(done)} of {_runs(len(runs))} {results_of} {_days(records)} ({source}); {rest}"
    them = "it" if len(runs) == 1 else "them"
    yield f"redo {them}: --force '*' (make: FORCE='*'); or in another folder: --results DIR"


def trained_by_others(results: Path, done: Sequence[Run]) -> dict[str, int]:
    """The number of stored runs that each other experiment was the last to execute, most first."""
    found: Counter[str] = Counter()
    for run in done:
        record = store.read_record(store.run_folder(results, run)) or {}
        name = str(record.get("experiment", run.experiment))
        found[RENAMED.get(name, name)] += 1
    return {name: count for name, count in found.most_common() if name != done[0].experiment} if done else {}


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _tally(counts: dict[str, int]) -> list[str]:
    return [f"{name}: {count}" for name, count in counts.items()]


def _in_brackets(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def _days(records: Sequence[dict[str, Any]]) -> str:
    """`21 Nov 2026`, or the first and the last day."""
    times = [record.get("finished") or record.get("started") for record in records]
    days = sorted({datetime.fromisoformat(time).date() for time in times if isinstance(time, str)})
    if not days:
        return "an unknown day"
    first, last = (f"{day.day} {day:%b %Y}" for day in (days[0], days[-1]))
    return first if first == last else f"{first} to {last}"


def _commits(records: Sequence[dict[str, Any]]) -> str:
    revisions = [(record.get("provenance") or {}).get("git") or {} for record in records]
    found = list(dict.fromkeys(str(revision["sha"])[:7] for revision in revisions if revision.get("sha")))
    return next(iter(_named("commit", found)), "no commit known")


def _processors(records: Sequence[dict[str, Any]]) -> list[str]:
    sources = [record.get("provenance") or {} for record in records]
    return list(dict.fromkeys(str(source["processor"]) for source in sources if source.get("processor")))


def _named(noun: str, names: Sequence[str]) -> list[str]:
    """`commit abc`, `commits abc and def`, `3 commits`; a single processor needs no noun."""
    if len(names) > MOST_NAMED:
        return [f"{len(names)} {noun}s"]
    if len(names) == 1:
        return [names[0] if noun == "processor" else f"{noun} {names[0]}"]
    return [f"{noun}s {' and '.join(names)}"] if names else []
