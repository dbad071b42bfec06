"""Checks that claims fit the experiments they name, before any result is read."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nfrepro.claims.claim import Claim, ClaimTest, hint
from nfrepro.claims.file import Schemas
from nfrepro.claims.runs import known_scales, select, where_text
from nfrepro.errors import InputError
from nfrepro.runs.table import flatten
from nfrepro.specs import Experiment, expand, load_experiment
from nfrepro.specs.origins import problem


def check_scale(claims: Sequence[Claim], folder: Path, scale: str) -> None:
    """Raises `InputError` if none of the claims' experiments has the scale."""
    known = known_scales(claims, folder)
    if scale not in known:
        raise InputError(f"--scale {scale}: unknown{hint(scale, known)}")


def check_runs(claims: Sequence[Claim], folder: Path, scale: str, schemas: Schemas) -> None:
    """Raises `InputError`, with file and line, for a selection that matches no run of its experiment at `scale`."""
    tests = [test for claim in claims for test in _asked(claim, scale)]
    for name in dict.fromkeys(test.form.experiment for test in tests):
        experiment = load_experiment(name, folder)
        if scale not in experiment.scales:
            continue
        rows = _rows(experiment, scale, schemas)
        for test in tests:
            if test.form.experiment == name:
                _check_selections(test, rows, scale)


def check_looks(claims: Sequence[Claim], folder: Path, scale: str, schemas: Schemas) -> None:
    """Raises `InputError` if a claim's last look at `scale` needs more seeds than any arm of one of its tests has."""
    seeds: dict[str, pd.DataFrame] = {}
    for claim in claims:
        looks = claim.looks.get(scale, ())
        for test in claim.tests_at(scale) if looks else ():
            name = test.form.experiment
            if name not in seeds:
                seeds[name] = _rows(load_experiment(name, folder), scale, schemas)
            arms = [select(seeds[name], of.where, test.baseline) for of in test.selections.values()]
            most = max(int(arm["seed"].nunique()) for arm in arms)
            if most < looks[-1]:
                text = f"its last look at scale {scale} is at {looks[-1]} seeds, and {name} has {most}"
                raise problem(test.origin, f"{claim.id}: {text}")


def _asked(claim: Claim, scale: str) -> list[ClaimTest]:
    """The tests of a claim and its controls at a scale."""
    return [*claim.tests_at(scale), *(control.test for control in claim.controls_at(scale))]


def _rows(experiment: Experiment, scale: str, schemas: Schemas) -> pd.DataFrame:
    """The runs of an experiment as a table of objects: integer columns with blanks would become floats otherwise."""
    return pd.DataFrame([flatten(run.config) for run in expand(experiment, scale, schemas)], dtype=object)


def _check_selections(test: ClaimTest, rows: pd.DataFrame, scale: str) -> None:
    for name, selection in test.selections.items():
        if select(rows, selection.where, test.baseline).empty:
            meant = where_text(selection.where) or "its baseline"
            what = f"no run of {test.form.experiment} at scale {scale} has {meant}"
            raise problem(selection.origin, f"{name}: {what}")
