"""What a run's folder says, whole or damaged."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from nfrepro.errors import InputError
from nfrepro.launch.execute import Placement, execute
from nfrepro.runs import pruning, store
from nfrepro.runs.lock import hold_lock
from nfrepro.specs import Run, expand, identity, load_experiment
from nfrepro.tasks.registry import SCHEMAS


@pytest.fixture
def run(experiments: Path) -> Run:
    return expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)[0]


def record(run: Run, **changes: Any) -> dict[str, Any]:
    return {
        "id": run.id,
        "task": run.task,
        "config": run.config,
        "outside_id": list(run.outside_id),
        "old_names": run.old_names,
        "status": "completed",
        "final": {},
        "error": None,
    } | changes


def stored(results: Path, run: Run, content: dict[str, Any]) -> Path:
    folder = store.run_folder(results, run)
    folder.mkdir(parents=True, exist_ok=True)
    store.write_record(folder, content)
    return folder


def test_states(results: Path, run: Run) -> None:
    folder = store.run_folder(results, run)
    assert store.read(folder).state == "missing"
    folder.mkdir(parents=True)
    assert store.read(folder).state == "missing"
    with hold_lock(folder):
        assert store.read(folder).state == "running"
    for status, state in [("completed", "completed"), ("diverged", "diverged"), ("failed", "failed")]:
        stored(results, run, record(run, status=status))
        assert store.read(folder).state == state
    stored(results, run, record(run, status="running"))
    assert store.read(folder).state == "interrupted"
    with hold_lock(folder):
        assert store.read(folder).state == "running"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"id": 1}', '{"status": "completed"}', "[" * 100_000, "\x00"])
def test_a_damaged_record_counts_for_nothing_and_says_so(results: Path, run: Run, text: str) -> None:
    folder = stored(results, run, record(run))
    (folder / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json: not a valid record: move its folder away, or redo"):
        store.read(folder)


def test_an_edited_record_is_noticed(results: Path, run: Run) -> None:
    folder = stored(results, run, record(run))
    edited = json.loads((folder / "run.json").read_text())
    edited["config"]["train"]["lr_per_256"] = 0.7
    (folder / "run.json").write_text(json.dumps(edited))
    with pytest.raises(InputError, match="it was edited or moved"):
        store.read(folder)


@pytest.mark.parametrize("version", [0, 2, "2", None])
def test_a_record_of_another_version_is_refused_by_name(results: Path, run: Run, version: Any) -> None:
    folder = stored(results, run, record(run, version=version))
    with pytest.raises(InputError, match=rf"run\.json: record version {version!r}; this nfrepro reads 1: use the one"):
        store.read(folder)


@pytest.mark.parametrize("version", [0, 2, 17])
def test_a_record_of_another_schema_is_not_taken_for_an_edited_one(results: Path, run: Run, version: int) -> None:
    label = run.id.rpartition("-")[0]
    name = f"{label}-{identity(run.task, run.id_config, version)}"
    folder = store.runs_folder(results) / name
    folder.mkdir(parents=True)
    store.write_record(folder, record(run, id=name))
    with pytest.raises(InputError, match=rf"run\.json: schema version {version}; this nfrepro reads 1: use the one"):
        store.read(folder)


def test_a_config_that_is_not_the_runs_stops_with_a_difference(results: Path, run: Run, monkeypatch: Any) -> None:
    other = json.loads(json.dumps(run.config))
    other["train"]["batch_size"] = 8
    folder = stored(results, run, record(run, config=other))
    monkeypatch.setattr(store, "identity", lambda task, config: run.id.rpartition("-")[2])  # as if two configs collided
    with pytest.raises(InputError, match=r"its config is not that of the run: train\.batch_size: 8 \(stored\) != 16"):
        store.check_config(folder, run)


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl"])
def test_a_named_pipe_is_refused_and_not_waited_for(results: Path, run: Run, name: str) -> None:
    folder = stored(results, run, record(run))
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    for act in (store.read,) if name == "run.json" else (store.read, store.read_metrics, store.newest_metrics):
        with pytest.raises(InputError, match=rf"{name}: cannot be read: .*not a regular file"):
            act(folder)


@pytest.mark.parametrize("there", [True, False], ids=["led to", "dangling"])
def test_a_run_folder_that_is_a_link_is_refused_and_not_followed(results: Path, run: Run, there: bool) -> None:
    outside = results.parent / "outside" / run.id
    if there:
        outside.parent.mkdir()
        stored(results.parent / "other", run, record(run)).rename(outside)
    before = sorted(path.name for path in outside.iterdir()) if there else []
    folder = store.run_folder(results, run)
    folder.parent.mkdir(parents=True)
    folder.symlink_to(outside)
    for act in (store.read, store.read_record, store.remove):
        with pytest.raises(InputError, match=f"{run.id}: a link to {outside}: replace it with its target"):
            act(folder)
    ended = execute(run, Placement(results, "cpu", 1, 60.0), lambda progress: None, print, lambda: False)
    assert ended.ending == "failed"
    assert "a link to" in ended.text
    assert (sorted(path.name for path in outside.iterdir()) if there else []) == before


def test_a_results_folder_may_be_a_link(results: Path, run: Run) -> None:
    stored(results, run, record(run))
    elsewhere = results.rename(results.parent / "elsewhere")
    results.symlink_to(elsewhere)
    assert store.read(store.run_folder(results, run)).state == "completed"


def test_a_link_in_place_of_a_run_is_neither_listed_nor_followed_by_prune(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    (tmp_path / "results" / "runs").mkdir(parents=True)
    link = tmp_path / "results" / "runs" / "run-0123456789ab"
    link.symlink_to(elsewhere)
    with pytest.raises(InputError, match="a link to") as refused:
        pruning.find(tmp_path / "results", ids=[])
    assert str(link) in str(refused.value)
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]
