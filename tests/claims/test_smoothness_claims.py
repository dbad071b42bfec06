"""The claims on smoothness (W11 to W15): made-up runs decide them as they should."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nfrepro.claims.file import load_claims
from nfrepro.claims.judge import judge
from nfrepro.runs.table import flatten
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
COLUMNS = [
    f"log10_{relative}{name}" for relative in ("", "relative_") for name in ("loss_range", "gradient_change", "beta")
]
# W12 stands on stored runs; the others were re-ruled, and are asked where networks train for longer.
CLAIMS = {"smoothness": ("laptop", {"W12"}), "why_normalization": ("overnight", {"W11", "W13", "W14", "W15"})}
World = Callable[[str], float]  # log10 of the roughness of a network


def network(row: dict[str, Any]) -> str:
    return {"bn_resnet": "bn", "unnormalized_resnet": "nothing"}.get(row["model.name"], row.get("model.convolution"))


@cache
def runs(name: str, scale: str) -> list[Run]:
    return expand(load_experiment(name, EXPERIMENTS), scale, SCHEMAS)


def write(results: Path, name: str, scale: str, world: World, **states: str) -> None:
    """All numbers of a run are those of `world` with a little noise; `states` of networks' runs."""
    rows = []
    for number, run in enumerate(runs(name, scale)):
        row = flatten(run.config)
        state = states.get(network(row), "completed")
        noise = np.random.default_rng(number).normal(0.0, 0.01, len(COLUMNS))
        numbers = dict(zip(COLUMNS, world(network(row)) + noise, strict=True)) if state == "completed" else {}
        rows.append({"id": run.id, "state": state, "in_experiment": True, **row, **numbers})
    folder = results / name / scale
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=list(dict.fromkeys(key for row in rows for key in [*row, *COLUMNS]))).to_csv(
        folder / "runs.csv", index=False
    )


def write_controls(results: Path) -> None:
    """A regime in which networks train."""
    rows = [
        {"id": run.id, "state": "completed", "in_experiment": True, **flatten(run.config)}
        | {"top1": 65.0, "final_train_top1": 66.0 + run.config["seed"] / 100, "skipinit_gain": 0.9}
        for run in runs("table_1", "overnight")
    ]
    (results / "table_1" / "overnight").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(results / "table_1" / "overnight" / "runs.csv", index=False)


def verdicts(results: Path, world: World, **states: str) -> dict[str, str]:
    """By claim."""
    write_controls(results)
    found = {}
    for name, (scale, ids) in CLAIMS.items():
        write(results, name, scale, world, **states)
        claims = [claim for claim in load_claims(EXPERIMENTS, SCHEMAS) if claim.id in ids]
        found |= {verdict.claim.id: verdict.verdict for verdict in judge(claims, results, scale)}
    return found


def test_there_are_runs_for_all_networks() -> None:
    found = [network(flatten(run.config)) for run in runs("smoothness", "laptop")]
    assert {name: found.count(name) for name in found} == {"bn": 5, "scaled_ws": 5, "he": 5, "nothing": 5}


@pytest.mark.parametrize(
    ("world", "contradicted"),
    [
        ({"bn": 0.0, "scaled_ws": 0.0, "he": 1.0, "nothing": 2.0}, set()),
        ({"bn": 0.0, "scaled_ws": -2.0, "he": 1.0, "nothing": 2.0}, set()),  # smoother than BN speaks for it
        ({"bn": 2.0, "scaled_ws": 2.0, "he": 3.0, "nothing": 0.0}, {"W11", "W12", "W13"}),
        ({"bn": 0.0, "scaled_ws": 0.5, "he": 1.0, "nothing": 2.0}, {"W14"}),
        ({"bn": 0.0, "scaled_ws": 0.2, "he": 0.1, "nothing": 2.0}, {"W15"}),
    ],
)
def test_worlds(results: Path, world: dict[str, float], contradicted: set[str]) -> None:
    found = verdicts(results, world.__getitem__)
    assert found == {f"W{n}": "contradicted" if f"W{n}" in contradicted else "supported" for n in range(11, 16)}


def test_networks_that_diverge_leave_claims_open(results: Path) -> None:
    found = verdicts(results, {"bn": 0.0, "scaled_ws": 0.0, "he": 1.0}.__getitem__, nothing="diverged")
    assert {name: verdict for name, verdict in found.items() if verdict != "supported"} == dict.fromkeys(
        ("W11", "W12", "W13"), "not run"
    )
