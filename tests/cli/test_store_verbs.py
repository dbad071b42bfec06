"""compare and prune, on small stores with known numbers."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tiny_experiment import TINY, Call

from nfrepro.runs import redo, store
from nfrepro.runs.lock import hold_lock
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

HERE = ("tiny", "--scale", "smoke")


@pytest.fixture
def runs(experiments: Path) -> list[Run]:
    return expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)


def write(results: Path, run: Run, top1: float | None, processor: str = "ours", **changes: Any) -> Path:
    record = store.description_of(run) | {
        "status": "completed" if top1 is not None else "diverged",
        "final": {"top1": top1, "train_loss": 0.5, "train_seconds": len(processor)},
        "error": None,
        "provenance": {"processor": processor, "device": "cpu", "threads": 1},
    }
    folder = store.run_folder(results, run)
    folder.mkdir(parents=True)
    store.write_record(folder, record | changes)
    return folder


@pytest.fixture
def stores(results: Path, tmp_path: Path, runs: list[Run]) -> tuple[Path, Path]:
    """Ours has three runs, theirs the first two and the last, and another number for the second."""
    theirs = tmp_path / "theirs"
    for run, top1 in zip(runs, (80.0, 81.0, 50.0), strict=False):
        write(results, run, top1)
    for run, top1 in zip([runs[0], runs[1], runs[3]], (80.0, 81.5, 60.0), strict=True):
        write(theirs, run, top1, "theirs")
    return results, theirs


def test_runs_and_arms_side_by_side(nfrepro: Call, stores: tuple[Path, Path], runs: list[Run]) -> None:
    called = nfrepro("compare", *HERE, "--with", str(stores[1]), "--json")
    assert called.returncode == 0, called.stderr
    found = json.loads(called.stdout)
    assert [pair["id"] for pair in found["runs"]] == [run.id for run in runs]
    assert [pair["difference"] for pair in found["runs"]] == [
        {"top1": 0.0, "train_loss": 0.0},
        {"top1": 0.5, "train_loss": 0.0},
        {},
        {},
    ]
    assert [pair["there"]["state"] for pair in found["runs"]] == ["completed", "completed", "missing", "completed"]
    assert (found["runs"][0]["here"]["processor"], found["runs"][0]["there"]["processor"]) == ("ours", "theirs")
    first, second = found["arms"]
    assert (first["here"]["n"], first["there"]["n"], first["n_both"]) == (2, 2, 2)
    assert (first["here"]["numbers"]["top1"], first["there"]["numbers"]["top1"]) == (80.5, 80.75)
    assert first["difference"]["top1"] == 0.25
    # Of the other arm each has another seed: means, and nothing to subtract.
    assert (second["here"]["n"], second["there"]["n"], second["n_both"], second["difference"]) == (1, 1, 0, {})


def test_as_tables(nfrepro: Call, stores: tuple[Path, Path], runs: list[Run]) -> None:
    lines = nfrepro("compare", *HERE, "--with", str(stores[1])).stdout.splitlines()
    second = next(line for line in lines if line.startswith(runs[1].id))
    assert " ".join(second.split()[1:]) == "top1 81 top1 81.5 +0.5 0 ours, 1 thread theirs, 1 thread"
    arm = next(line for line in lines if line.startswith("nf_resnet8-alpha0.2-synthetic-batch16 "))
    assert arm.split()[1:] == ["top1", "80.5", "2", "top1", "80.75", "2", "+0.25", "2"]
    assert lines[-1] == "4 runs: 2 completed in both, 1 of them with the same numbers"


def test_one_store_alone(nfrepro: Call, stores: tuple[Path, Path], runs: list[Run]) -> None:
    lines = nfrepro("compare", *HERE).stdout.splitlines()
    assert next(line for line in lines if line.startswith(runs[3].id)).split()[1:] == ["missing"]
    assert next(line for line in lines if line.startswith(runs[0].id)).split()[1:4] == ["top1", "80", "ours,"]


def test_a_diverged_run_has_a_state_and_no_number(nfrepro: Call, results: Path, runs: list[Run]) -> None:
    write(results, runs[0], None)
    pair = json.loads(nfrepro("compare", *HERE, "--json").stdout)["runs"][0]
    assert (pair["here"]["state"], pair["here"]["numbers"], pair["there"]) == ("diverged", {}, None)


def test_a_store_that_is_not_there_or_damaged_is_one_line(
    nfrepro: Call, stores: tuple[Path, Path], runs: list[Run], tmp_path: Path
) -> None:
    missing = nfrepro("compare", *HERE, "--with", str(tmp_path / "nowhere"))
    (store.run_folder(stores[1], runs[0]) / "run.json").write_text("{")
    damaged = nfrepro("compare", *HERE, "--with", str(stores[1]))
    for called, message in [(missing, "nowhere: no such folder of results"), (damaged, "not a valid record")]:
        assert (called.returncode, len(called.stderr.splitlines())) == (2, 1)
        assert message in called.stderr


def test_two_stores_copied_into_one_are_the_store_of_both(
    nfrepro: Call, stores: tuple[Path, Path], runs: list[Run], tmp_path: Path
) -> None:
    both = tmp_path / "both"
    for folder in stores:
        shutil.copytree(folder, both, dirs_exist_ok=True)
    called = nfrepro("collect", *HERE, "--results", str(both))
    assert called.returncode == 0, called.stderr
    table = (both / "tiny" / "smoke" / "runs.csv").read_text()
    assert table.count(",completed,True,") == 4


def test_runs_of_smoke_alone_are_not_seen_by_git(nfrepro: Call, results: Path, experiments: Path) -> None:
    one = TINY.replace("[0.2, 1.0]", "[0.2]").replace("seed: [0, 1]", "seed: [0]")
    (experiments / "tiny.yaml").write_text(one.replace("{smoke: {}}", "{smoke: {}, laptop: {}}"))
    assert nfrepro("sweep", *HERE, "--threads", "1").returncode == 0
    subprocess.run(["git", "init", "--quiet", str(results)], check=True)

    def seen() -> list[str]:
        command = ["git", "-C", str(results), "status", "--porcelain", "--untracked-files=all", "runs"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return sorted(Path(line[3:]).name for line in listed.splitlines())

    assert seen() == []
    assert nfrepro("sweep", "tiny", "--scale", "laptop").returncode == 0
    assert seen() == ["metrics.jsonl", "run.json"]


def test_prune_lists_and_removes_what_no_experiment_has(
    nfrepro: Call, results: Path, runs: list[Run], experiments: Path
) -> None:
    folders = [write(results, run, 80.0) for run in runs]
    nfrepro("collect", *HERE)
    assert nfrepro("prune").stdout == f"0 runs of no experiment in {experiments}, 0 removed\n"
    (experiments / "tiny.yaml").write_text(TINY.replace("model.alpha: [0.2, 1.0]", "model.alpha: [0.2]"))
    (experiments / "other.yaml").write_text(TINY.replace("[0.2, 1.0]", "[1.0]").replace("[0, 1]", "[1]"))
    redo.request(results, runs[2])
    listed = nfrepro("prune").stdout.splitlines()
    assert listed[0].startswith(f"{runs[2].id}  ")
    assert listed[0].endswith(f" kB  in {results}/tiny/smoke/runs.csv")
    assert listed[1:] == [
        f"1 run of no experiment in {experiments}, 0 removed",
        "to remove them: nfrepro prune --yes",
    ]
    assert all(folder.is_dir() for folder in folders)
    assert nfrepro("prune", "--yes").stdout.splitlines()[-1] == f"1 run of no experiment in {experiments}, 1 removed"
    assert [folder.is_dir() for folder in folders] == [True, True, False, True]
    assert list((results / "runs" / ".redo").iterdir()) == []
    assert nfrepro("collect", *HERE).returncode == 0


def test_prune_leaves_what_is_being_executed(nfrepro: Call, results: Path, runs: list[Run], experiments: Path) -> None:
    folders = [write(results, run, 80.0) for run in runs]
    (experiments / "tiny.yaml").write_text(TINY.replace("[0.2, 1.0]", "[0.2]"))
    with hold_lock(folders[2]):
        called = nfrepro("prune", "--yes")
        assert f"{runs[2].id}  is being executed: stays" in called.stdout
        assert called.stdout.splitlines()[-1] == f"2 runs of no experiment in {experiments}, 1 removed"
    assert [folder.is_dir() for folder in folders] == [True, True, True, False]


@pytest.mark.parametrize("broken", ["", "title: [", None])
def test_prune_removes_nothing_where_experiments_are_not_known(
    nfrepro: Call, results: Path, runs: list[Run], experiments: Path, broken: str | None
) -> None:
    folder = write(results, runs[0], 80.0)
    path = experiments / "tiny.yaml"
    path.unlink() if broken is None else path.write_text(broken)
    called = nfrepro("prune", "--yes")
    assert (called.returncode, len(called.stderr.splitlines())) == (2, 1)
    assert folder.is_dir()
