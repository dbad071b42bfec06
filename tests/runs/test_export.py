"""Stored runs in the formats of other tools, read back by those tools, and live TensorBoard."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_experiment import Call

from nfrepro.runs.export import StoredRun, export_csv, metrics_with_steps

HERE = ("tiny", "--scale", "smoke", "--set", "seed=0")


@pytest.fixture
def swept(nfrepro: Call) -> Call:
    assert nfrepro("sweep", *HERE, "--executor", "debug", "--threads", "1").returncode == 0
    return nfrepro


def stored(results: Path) -> list[Path]:
    runs = list(results.glob("runs/nf_*"))
    assert len(runs) == 2
    return runs


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> steps and values, as TensorBoard reads them."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def expected(run: Path, name: str) -> list[tuple[int, Any]]:
    return [(row["step"], pytest.approx(row[name])) for row in metrics(run)]


@pytest.mark.slow
def test_csv_has_every_metric_of_every_run(swept: Call, results: Path, tmp_path: Path) -> None:
    called = swept("export", *HERE, "--to", "csv", "--out", str(tmp_path / "out"))
    assert called.returncode == 0, called.stderr
    assert "2 of 2 runs" in called.stdout
    with (tmp_path / "out" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for run in stored(results):
        found = {(row["step"], row["metric"]): float(row["value"]) for row in rows if row["run"] == run.name}
        for row in metrics(run):
            assert found[str(row["step"]), "test_top1"] == row["test_top1"]
        final = json.loads((run / "run.json").read_text())["final"]
        assert found["", "final.top1"] == final["top1"]


@pytest.mark.slow
def test_tensorboard_reads_what_metrics_say(swept: Call, results: Path, tmp_path: Path) -> None:
    for _ in range(2):  # a second export replaces the first
        called = swept("export", *HERE, "--to", "tensorboard", "--out", str(tmp_path / "out"))
        assert called.returncode == 0, called.stderr
    for run in stored(results):
        found = scalars(tmp_path / "out" / run.name)
        assert found["test_top1"] == expected(run, "test_top1")
        assert "final/top1" in found


@pytest.mark.slow
def test_runs_show_in_tensorboard_while_they_train(nfrepro: Call, results: Path, tmp_path: Path) -> None:
    called = nfrepro("sweep", *HERE, "--jobs", "1", "--tensorboard", str(tmp_path / "live"))
    assert called.returncode == 0, called.stderr
    for run in stored(results):
        assert scalars(tmp_path / "live" / run.name)["test_loss"] == expected(run, "test_loss")
        assert not list(run.glob("events*"))


@pytest.mark.slow
def test_wandb_gets_offline_runs(swept: Call, tmp_path: Path) -> None:
    called = swept("export", *HERE, "--to", "wandb-offline", "--out", str(tmp_path / "out"))
    assert called.returncode == 0, called.stderr
    files = list((tmp_path / "out" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    assert all(b"test_top1" in path.read_bytes() for path in files)


def test_rows_of_own_code_without_a_step_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"loss": 2.0}\n{"loss": 1.0, "step": 7}\n{"loss": 0.5, "step": "end"}\n')
    assert [row["step"] for row in metrics_with_steps(tmp_path)] == [0, 7, 2]
    record = {"id": "run", "experiment": "e", "scale": "s", "config": {}, "final": {}}
    path = export_csv([StoredRun(record, tuple(metrics_with_steps(tmp_path)))], tmp_path)
    assert path.read_text().splitlines()[1:] == [
        "run,e,s,,0,,loss,2.0", "run,e,s,,7,,loss,1.0", "run,e,s,,2,,loss,0.5"
    ]  # fmt: skip


def test_what_cannot_be_exported_is_refused(nfrepro: Call, tmp_path: Path) -> None:
    nothing = nfrepro("export", *HERE, "--to", "csv", "--out", str(tmp_path / "out"))
    assert nothing.returncode == 2
    assert "tiny at scale smoke: no run is done yet: nothing to export" in nothing.stderr
    unknown = nfrepro("export", *HERE, "--to", "tensorbord")
    assert unknown.returncode == 2
    assert "--to tensorbord: unknown, did you mean tensorboard?" in unknown.stderr
    assert not (tmp_path / "out").exists()
