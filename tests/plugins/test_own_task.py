"""A task of one's own: called with its config, its surroundings and its options; its numbers are the run's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nfrepro.errors import InputError
from nfrepro.specs import load_experiment
from nfrepro.specs.expansion import expand
from nfrepro.tasks.registry import SCHEMAS
from tests.in_this_process import nfrepro_here

EXPERIMENT = """\
title: a task of one's own
claims: []
task: own_study.tasks:run
set:
  options: {scale: 3}
  model: {name: nf_resnet, blocks: [1], width: 0.0625, stem: small}
grid:
  seed: [0, 1]
scales: {smoke: {}}
"""
TASK = """\
from nfrepro.models.registry import build

def run(task, ctx, scale, offset=0.5):
    model = build(task.model, 3, 1)
    (ctx.folder / "own.txt").write_text("written")
    return {"number": scale * task.seed + offset, "parameters": sum(p.numel() for p in model.parameters())}
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(EXPERIMENT)
    (tmp_path / "own_study").mkdir()
    (tmp_path / "own_study" / "tasks.py").write_text(TASK)
    return path


def test_its_numbers_are_stored(experiment: Path, tmp_path: Path) -> None:
    ended = nfrepro_here("sweep", str(experiment), "--scale", "smoke", "--results", str(tmp_path / "results"))
    assert ended.returncode == 0, ended.stderr
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "results" / "runs").glob("*/run.json"))]
    assert [record["final"]["number"] for record in records] == [0.5, 3.5]
    assert {record["task"] for record in records} == {"own_study.tasks:run"}
    assert all(record["id"].startswith("own_study.tasks.run-seed") for record in records)
    again = nfrepro_here("sweep", str(experiment), "--scale", "smoke", "--results", str(tmp_path / "results"))
    assert again.returncode == 0
    listed = nfrepro_here("status", str(experiment), "--scale", "smoke", "--results", str(tmp_path / "results"))
    assert listed.returncode == 0, listed.stderr


@pytest.mark.parametrize(
    ("number", "problem"),
    [
        ('"seed": 3', "final.seed: runs.csv has another column of this name"),
        ('"error": 0.25', "final.error: runs.csv has another column of this name"),
        ('"my.number": 1', "final.my.number: runs.csv has another column of this name"),
        ('"numbers": [1]', "final.numbers: expected a number, text or null"),
        ('"top1": 101.0', "final.top1: 101 is not a percentage"),
    ],
)
def test_a_result_that_could_not_be_read_again_fails_the_run(
    experiment: Path, tmp_path: Path, number: str, problem: str
) -> None:
    (experiment.parent / "own_study" / "tasks.py").write_text(
        TASK.replace('"parameters": sum(', f'{number}, "n": sum(')
    )
    where = ("--scale", "smoke", "--results", str(tmp_path / "results"))
    ended = nfrepro_here("sweep", str(experiment), *where, "--executor", "debug")
    assert ended.returncode == 1
    records = [json.loads(path.read_text()) for path in (tmp_path / "results" / "runs").glob("*/run.json")]
    assert [record["status"] for record in records] == ["failed", "failed"]
    assert {record["error"] for record in records} == {f"InputError: the result cannot be stored: {problem}"}
    assert nfrepro_here("status", str(experiment), *where).returncode in (0, 1)


def test_whatever_bytes_it_writes_to_standard_error_it_ends(experiment: Path, tmp_path: Path) -> None:
    """More bytes than a pipe holds: the queue has to read on after those that are no UTF-8."""
    loud = 'import os; os.write(2, b"M\\xfcller\\n" + b"x" * 79 + b"\\n" * 3000)'
    noise = TASK.replace("    model = build", f"    {loud}\n    model = build")
    (experiment.parent / "own_study" / "tasks.py").write_text(noise)
    call = ("sweep", str(experiment), "--scale", "smoke", "--jobs", "1", "--results", str(tmp_path / "results"))
    ended = subprocess.run(
        [sys.executable, "-m", "nfrepro", *call], capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "M\\xfcller" in ended.stdout + ended.stderr


def test_a_module_that_exits_when_it_is_imported_is_refused(experiment: Path, tmp_path: Path) -> None:
    (experiment.parent / "own_study" / "tasks.py").write_text(f"{TASK}\nimport sys\nsys.exit(0)\n")
    where = ("--scale", "smoke", "--results", str(tmp_path / "results"), "--executor", "debug")
    ended = nfrepro_here("sweep", str(experiment), *where)
    assert ended.returncode != 0
    assert "own_study.tasks:run: cannot be imported: SystemExit: 0" in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("tasks:run", "tasks:runs", r"study\.yaml:3: task: own_study\.tasks:runs: .*did you mean run\?"),
        ("tasks:run", "task:run", r"study\.yaml:3: task: own_study\.task:run: no module own_study\.task"),
        (
            "scale: 3",
            "scael: 3",
            r"study\.yaml:5: options: own_study\.tasks:run: unexpected option scael, did you mean scale\?",
        ),
        ("model: {name: nf_resnet", "model: {name: nf_resnt", r"study\.yaml:6: model\.name: expected one of"),
    ],
)
def test_a_mistake_is_said_with_its_line(experiment: Path, old: str, new: str, says: str) -> None:
    experiment.write_text(EXPERIMENT.replace(old, new, 1))
    with pytest.raises(InputError, match=says):
        expand(load_experiment(str(experiment), experiment.parent), "smoke", SCHEMAS)


def test_a_task_that_is_neither_ours_nor_a_name_is_unknown(experiment: Path) -> None:
    experiment.write_text(EXPERIMENT.replace("own_study.tasks:run", "trian"))
    with pytest.raises(InputError, match="unknown task trian, did you mean train"):
        expand(load_experiment(str(experiment), experiment.parent), "smoke", SCHEMAS)
