"""Looks at claims: which are due and which runs they need, and the record of past looks.

results/looks.jsonl has a line for each look, in the order in which they took place, and is append-only. Verdicts do
not depend on it: they follow from the runs and the planned looks, since an arm enters with its first seeds in order.
It records when each look took place, at which commit, and what it gave.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from nfrepro import atomic
from nfrepro.claims.claim import Claim, ClaimTest
from nfrepro.claims.claim_evidence import ClaimEvidence, Look
from nfrepro.claims.evidence import first_seeds
from nfrepro.claims.file import Schemas
from nfrepro.claims.judge import ClaimVerdict
from nfrepro.claims.runs import select, split
from nfrepro.errors import InputError
from nfrepro.runs.provenance import git_revision
from nfrepro.runs.table import flatten
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.stats.samples import Missing
from nfrepro.stats.sequential import nominal_levels

FILE = "looks.jsonl"
# Smaller differences between p-values are due to another processor.
_SAME = 1e-6


@dataclass(frozen=True)
class DueLook:
    """The next look at a claim, and all the runs that it needs, stored or not."""

    verdict: ClaimVerdict
    n: int | None  # seeds per arm; None: all
    runs: tuple[Run, ...]
    at_most: tuple[Run, ...]  # all runs that its last look needs
    level: float  # one-sided, of that look, in the stricter list; it rises as other claims are decided
    last_level: float  # of the last look

    @property
    def claim(self) -> Claim:
        return self.verdict.claim


class Expansions:
    """The runs of each experiment at one scale, as runs and as a table; each expanded once."""

    def __init__(self, folder: Path, scale: str, schemas: Schemas) -> None:
        self._folder, self._scale, self._schemas = folder, scale, schemas
        self._runs: dict[str, list[Run]] = {}
        self._tables: dict[str, pd.DataFrame] = {}

    def runs(self, experiment: str) -> list[Run]:
        """The runs of an experiment; none if it lacks the scale."""
        if experiment not in self._runs:
            found = load_experiment(experiment, self._folder)
            has_it = self._scale in found.scales
            self._runs[experiment] = expand(found, self._scale, self._schemas) if has_it else []
        return self._runs[experiment]

    def needed(self, test: ClaimTest, seeds: int | None) -> list[Run]:
        """The runs of a test's arms, limited to the first `seeds` seeds of each."""
        name = test.form.experiment
        runs = self.runs(name)
        if name not in self._tables:
            self._tables[name] = pd.DataFrame([flatten(run.config) for run in runs], dtype=object)
        table = self._tables[name]
        chosen = [
            first_seeds(select(table, of.where, part.baseline), seeds).index
            for part in (split(test, table) if runs else ())
            for of in part.selections.values()
        ]
        return [runs[index] for index in sorted(set().union(*chosen))]


def due_looks(verdicts: Sequence[ClaimVerdict], expansions: Expansions, scale: str) -> list[DueLook]:
    """The next look at each claim that is open at `scale`, given the `verdicts` of the list."""
    found = []
    for verdict in verdicts:
        claim, evidence = verdict.claim, verdict.evidence
        if verdict.scale != scale or not evidence.applies or _is_settled(verdict):
            continue
        n = evidence.planned[len(evidence.had)] if evidence.planned else None
        first = evidence.planned[0] if evidence.planned else None
        controls = [(control.test, first) for control in claim.controls_at(scale)]
        next_look, last_look = (
            _needed(expansions, [*controls, *((test, seeds) for test in claim.tests_at(scale))])
            for seeds in (n, evidence.planned[-1] if evidence.planned else None)
        )
        rate = min(verdict.ruling.support.rate, verdict.ruling.contradiction.rate)
        levels = nominal_levels(rate, evidence.planned or (1,))
        at = min(len(evidence.had), len(levels) - 1) if evidence.planned else 0
        found.append(DueLook(verdict, n, next_look, last_look, levels[at], levels[-1]))
    return found


def _needed(expansions: Expansions, tests: Sequence[tuple[ClaimTest, int | None]]) -> tuple[Run, ...]:
    """The runs of several tests, each with its number of seeds; every run once."""
    return tuple({run.id: run for test, seeds in tests for run in expansions.needed(test, seeds)}.values())


def _is_settled(verdict: ClaimVerdict) -> bool:
    """Whether no further run can change the verdict, or would be worth its cost."""
    evidence = verdict.evidence
    if verdict.verdict in ("supported", "contradicted", "not testable", "fact"):
        return True
    if not evidence.planned:
        return not any(look.pending for look in evidence.looks) and not _control_pending(evidence)
    had_all = len(evidence.had) == len(evidence.planned)
    return (had_all and not _control_pending(evidence)) or verdict.ending == "stopped for futility"


def _control_pending(evidence: ClaimEvidence) -> bool:
    return any(reading.evidence.pending for reading in evidence.controls)


def read_looks(results: Path) -> list[dict[str, Any]]:
    """The recorded looks. Raises `InputError`, with the line, for anything that is no record of a look."""
    path = results / FILE
    try:
        text = atomic.read_text(path)
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}): restore the file from git") from None
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            record = json.loads(line)
            found.append({key: record[key] for key in ("claim", "scale", "n")} | record)
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}:{number}: not a record of a look: restore the file from git") from None
    return found


def record_looks(verdicts: Sequence[ClaimVerdict], results: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Records past looks that are not recorded yet; returns them, and how others differ from their records."""
    known = {(record["claim"], record["scale"], record["n"]): record for record in read_looks(results)}
    added: list[dict[str, Any]] = []
    differing: list[str] = []
    for verdict in verdicts:
        for look in verdict.evidence.had if verdict.evidence.planned and not verdict.evidence.exact else ():
            record = _record(verdict, look)
            before = known.get((record["claim"], record["scale"], record["n"]))
            if before is None:
                added.append(record)
            else:
                differing += _differences(before, record)
    if added:
        path = results / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(record, sort_keys=True) + "\n" for record in added))
    return added, differing


def _record(verdict: ClaimVerdict, look: Look) -> dict[str, Any]:
    evidence, p = verdict.evidence, look.p_values(verdict.claim)
    index = evidence.looks.index(look)
    levels = [
        nominal_levels(step.rate, evidence.planned)[index]
        for step in (verdict.ruling.support, verdict.ruling.contradiction)
    ]
    revision = git_revision(Path(__file__).parent)
    return {
        "claim": verdict.claim.id,
        "scale": verdict.scale,
        "n": look.n,
        "p_support": p.outside,
        "p_contradiction": p.inside,
        "level_support": levels[0],
        "level_contradiction": levels[1],
        "arms": {arm: len(values) for arm, values in _arms(look)},
        "controls": {reading.control.name: reading.holds for reading in evidence.controls},
        "verdict": verdict.verdict,
        "ending": verdict.ending,
        "commit": revision and revision["sha"],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _arms(look: Look) -> Iterator[tuple[str, Mapping[int, float]]]:
    for number, (test, evidence) in enumerate(look.evidence, start=1):
        if isinstance(evidence.sample, Missing):
            continue
        for arm in evidence.arms:
            yield f"{test.form.experiment} test {number} {arm.name}", arm.values


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in ("p_support", "p_contradiction"):
        if not math.isclose(before[key], now[key], rel_tol=_SAME, abs_tol=_SAME):
            yield (
                f"{now['claim']} at n = {now['n']}: {key} was {before[key]:.3g} when it was looked at "
                f"({before.get('time')}), and is {now[key]:.3g}: runs were redone, or the rule changed"
            )
