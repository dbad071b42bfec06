"""Own code in experiments: found beside the file, part of the run's id, refused at the line that names it."""

import json
import re
from pathlib import Path

import pytest

from nfrepro.errors import InputError
from nfrepro.launch.cluster import Cluster
from nfrepro.launch.execute import Placement, execute
from nfrepro.launch.submission import divide, keep, read
from nfrepro.plugins.names import search_in
from nfrepro.specs import Run, load_experiment
from nfrepro.specs.expansion import expand
from nfrepro.tasks.registry import SCHEMAS
from tests.in_this_process import nfrepro_here

GAIN = """\
title: gains
claims: []
task: gain
set:
  activation: own_shapes:square
  vectors: 2
scales: {smoke: {}}
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "experiments" / "gains.yaml"
    path.parent.mkdir()
    path.write_text(GAIN)
    (path.parent / "own_shapes.py").write_text("import own_powers\ndef square(x):\n    return own_powers.two(x)\n")
    (path.parent / "own_powers.py").write_text("def two(x):\n    return x**2\n")
    return path


def run_of(path: Path, *overrides: str) -> Run:
    (run,) = expand(load_experiment(str(path), path.parent), "smoke", SCHEMAS, overrides)
    return run


def executed(run: Run, results: Path) -> tuple[str, str]:
    place = Placement(results, "cpu", 1, 60.0)
    ended = execute(run, place, lambda progress: None, lambda text: None, lambda: False)
    return ended.ending, ended.text


def test_the_id_is_of_the_code_too(experiment: Path) -> None:
    first = run_of(experiment)
    assert first.config["source"].startswith("sha256:")
    assert run_of(experiment) == first
    powers = experiment.parent / "own_powers.py"
    powers.write_text("def two(x):\n    return 2 * x**2\n")
    changed = run_of(experiment)
    assert changed.id != first.id
    assert {**changed.config, "source": None} == {**first.config, "source": None}
    powers.write_text("def two(x):\n    return x**2\n")
    assert run_of(experiment).id == first.id


def test_runs_without_own_code_have_none_of_it(experiment: Path) -> None:
    run = run_of(experiment, "activation=relu")
    assert (run.outside_id, run.code_folders) == ((), ())
    assert "source" not in run.config  # nor a column in anybody's tables


def test_it_runs_from_any_folder_and_changed_code_never_does(experiment: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    run = run_of(experiment)
    assert executed(run, results)[0] == "completed"
    record = json.loads((results / "runs" / run.id / "run.json").read_text())
    assert record["final"]["gamma"] == pytest.approx(2**-0.5, rel=1e-9)  # Var z^2 = 2
    assert record["config"]["source"] == run.config["source"]
    assert str(tmp_path) not in json.dumps(record["config"])

    other = run_of(experiment, "seed=1")
    (experiment.parent / "own_powers.py").write_text("def two(x):\n    return x**3\n")
    ending, text = executed(other, results)
    assert ending == "failed"
    assert "has changed since this run was planned" in text
    again = run_of(experiment, "seed=1")
    assert executed(again, results)[0] == "completed"
    record = json.loads((results / "runs" / again.id / "run.json").read_text())
    assert record["final"]["gamma"] == pytest.approx(15**-0.5, rel=1e-9)  # the new code, not what was imported before


def test_code_that_is_gone_is_one_line(experiment: Path, tmp_path: Path) -> None:
    run = run_of(experiment)
    (experiment.parent / "own_shapes.py").write_text("")
    ending, text = executed(run, tmp_path / "results")
    assert ending == "failed"
    assert "has no square" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("activation: own_shapes:sqare", ":5: activation: own_shapes:sqare: .* has no sqare, did you mean square?"),
        ("activation: own_shape:square", ":5: activation: own_shape:square: no module own_shape in "),
        ("activation: 'own_shapes:'", ":5: activation: own_shapes:: is not of the form package.module:name"),
        ("source: abc", ":5: source: is filled in by the program"),
    ],
)
def test_a_mistake_is_said_with_its_line(experiment: Path, line: str, says: str) -> None:
    experiment.write_text(GAIN.replace("activation: own_shapes:square", line))
    with pytest.raises(InputError, match=says.replace("?", r"\?")):
        run_of(experiment)


def test_a_file_with_a_mistake_is_named_before_anything_starts(experiment: Path) -> None:
    (experiment.parent / "own_powers.py").write_text("def two(x):\n    return x**\n")
    with pytest.raises(InputError, match=r"gains\.yaml:\d+: .*own_powers\.py:2: "):
        run_of(experiment)


def test_a_job_on_a_cluster_looks_in_the_same_folders(experiment: Path, tmp_path: Path) -> None:
    (run,) = (run_of(experiment),)
    kept = divide([run], tmp_path / "results", Cluster(timeout_min=60), 60.0)
    keep(kept)
    search_in([])  # a node knows nothing but what is in the submission
    (read_again,) = read(kept.folder).runs
    assert read_again == run
    assert read_again.code_folders[0] == str(experiment.parent)
    assert executed(read_again, tmp_path / "results")[0] == "completed"


def test_the_command_line_sweeps_it_in_workers_and_in_this_process(experiment: Path, tmp_path: Path) -> None:
    for executor in ("local", "debug"):
        ended = nfrepro_here(
            "sweep", str(experiment), "--scale", "smoke", "--executor", executor, "--results", str(tmp_path / executor)
        )
        assert ended.returncode == 0, ended.stderr
        (record,) = (tmp_path / executor / "runs").glob("*/run.json")
        assert json.loads(record.read_text())["status"] == "completed"
    wrong = nfrepro_here("sweep", str(experiment), "--scale", "smoke", "--set", "activation=own_shapes:sqare")
    assert wrong.returncode == 2
    assert re.fullmatch(
        r"[^\n]*--set activation=own_shapes:sqare: activation: [^\n]*did you mean square\?\n", wrong.stderr
    )


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("{name: 'timm:resnet10x'}", "model: timm:resnet10x: timm has no network resnet10x, did you mean resnet10"),
        ("{name: 'timm:resnet10t', options: {no_such: 1}}", "model: timm:resnet10t: .* argument 'no_such'"),
        ("{name: 'own_made:make', options: {no_such: 1}}", "model: own_made:make: unexpected option no_such"),
    ],
)
def test_what_only_execution_tells_is_said_before_anything_starts(experiment: Path, model: str, says: str) -> None:
    (experiment.parent / "own_made.py").write_text(
        "from functools import partial\nfrom torch import nn\n"
        "def _make(num_classes, width):\n    return nn.Linear(width, num_classes)\n"
        "make = partial(_make, width=3)\n"
    )
    experiment.write_text(
        "title: x\nclaims: []\ntask: train\nset:\n  data: {name: synthetic}\n"
        f"  model: {model}\nscales: {{smoke: {{}}}}\n"
    )
    results = experiment.parent / "results"
    ended = nfrepro_here("sweep", str(experiment), "--scale", "smoke", "--results", str(results))
    assert ended.returncode == 2
    assert re.search(says, ended.stderr)
    assert ended.stderr.count("\n") == 1
    assert not list(results.glob("runs/*/run.json"))
