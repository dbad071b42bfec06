"""The cost of runs, against sums done by hand."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nfrepro.report.costs import Costs, spent

RECORD = {"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T01:30:00+00:00", "provenance": {"threads": 2}}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, ("core", 3.0)),
        ({"final": {"train_seconds": 1800}}, ("core", 1.0)),
        ({"provenance": {"device": "cuda:0", "threads": 2}}, ("GPU", 1.5)),
        ({"provenance": {}}, ("core", 1.5)),
        ({"finished": None}, None),
    ],
)
def test_hours_of_a_run(changes: dict[str, Any], wanted: tuple[str, float] | None) -> None:
    assert spent(RECORD | changes) == wanted


def test_a_run_of_two_experiments_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = {"a": RECORD, "b": RECORD | {"provenance": {"device": "cuda"}}}
    monkeypatch.setattr("nfrepro.report.costs.read_record", lambda folder: json.loads(json.dumps(records[folder.name])))
    for name, rows in (
        ("one", [("a", "completed", True), ("c", "missing", True), ("b", "diverged", False)]),
        ("other", [("a", "completed", True), ("b", "diverged", True)]),
    ):
        folder = tmp_path / name / "laptop"
        folder.mkdir(parents=True)
        pd.DataFrame(rows, columns=["id", "state", "in_experiment"]).to_csv(folder / "runs.csv", index=False)
    costs = Costs(tmp_path)
    assert costs.text(["one"], "laptop") == "3 core-hours"
    assert costs.text(["one", "other"], "laptop") == "3 core-hours and 1.5 GPU-hours"
    assert costs.text(["one"], "overnight") == ""


def test_runs_that_no_experiment_asks_for_any_more_have_had_their_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = {"a": ("laptop", "completed"), "b": ("overnight", "diverged"), "c": ("laptop", "failed")}
    for name in ended:
        (tmp_path / "runs" / name).mkdir(parents=True)
    monkeypatch.setattr(
        "nfrepro.report.costs.read_record",
        lambda folder: RECORD | dict(zip(("scale", "status"), ended[folder.name], strict=True)),
    )
    assert Costs(tmp_path).stored() == {"laptop": "3 core-hours", "overnight": "3 core-hours"}
