"""The command line, called as users and programs call it."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from in_this_process import nfrepro_here
from tiny_experiment import TINY, Call

from nfrepro.cli import app

KNOWN_IDS = Path(__file__).parent / "known_ids.json"
ROOT = Path(__file__).parents[2]


def test_expand_as_json(nfrepro: Call) -> None:
    called = nfrepro("expand", "tiny", "--scale", "smoke", "--json", "--set", "train.lr_per_256=2e-1")
    assert called.returncode == 0
    runs = json.loads(called.stdout)
    assert [set(run) for run in runs] == [{"id", "experiment", "scale", "task", "config"}] * 4
    assert [(run["config"]["model"]["alpha"], run["config"]["seed"]) for run in runs] == [
        (0.2, 0),
        (0.2, 1),
        (1.0, 0),
        (1.0, 1),
    ]
    assert {run["config"]["train"]["lr_per_256"] for run in runs} == {0.2}
    assert {(run["experiment"], run["scale"], run["task"]) for run in runs} == {("tiny", "smoke", "train")}


def test_list(nfrepro: Call) -> None:
    assert json.loads(nfrepro("list", "--json").stdout) == [
        {
            "name": "tiny",
            "title": "a very small experiment",
            "claims": ["C35"],
            "scales": ["smoke"],
            "varies": ["model.alpha"],
        }
    ]
    told = nfrepro("list").stdout
    head, tiny = told.splitlines()
    assert head.split() == ["experiment", "title", "claims", "scales", "varies"]
    assert re.split(r"\s{2,}", tiny) == ["tiny", "a very small experiment", "C35", "smoke", "model.alpha"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["expand", "tinny"], "no experiment tinny, did you mean tiny?"),
        (["expand", "tiny", "--scale", "huge"], "huge"),
        (
            ["expand", "tiny", "--scale", "smoke", "--set", "model.alhpa=1"],
            "model.alhpa: unknown key, did you mean model.alpha?",
        ),
        (["sweep", "tiny", "--scale", "smoke", "--executor", "locl"], "--executor locl: unknown, did you mean local?"),
        (["sweep", "tiny", "--scale", "smoke", "--force", "nothing*"], "matches none of the 4 runs"),
        (["sweep", "tiny", "--scale", "smoke", "--jobs", "0"], "--jobs"),
        (["run", "tiny", "abc", "--scale", "smoke"], "no run abc among these 4 runs"),
        (["sweeep", "tiny"], "sweep"),
        (["sweep"], "EXP"),
        (["sweep", "runs.yaml"], "experiment name runs is reserved: results/runs/ holds all runs"),
        (["bench", "speed"], "bench speed: unknown; there is: specs, models"),
    ],
)
def test_a_bad_call_is_one_line_and_exit_2(nfrepro: Call, results: Path, arguments: list[str], message: str) -> None:
    called = nfrepro(*arguments)
    assert called.returncode == 2
    assert called.stdout == ""
    assert message in called.stderr
    assert len(called.stderr.splitlines()) == 1
    assert not results.exists()


@pytest.mark.parametrize(("old", "new"), [("depth", "table_1"), ("small_batch", "table_2"), ("nf_regnet", "figure_3")])
def test_every_verb_answers_an_old_name_with_the_new_one(old: str, new: str) -> None:
    """Verbs that take an experiment are found from the command line itself."""
    arguments = {
        verb: [str(one.metavar).strip("[]") for one in command.params if one.param_type_name == "argument"]
        for verb, command in typer.main.get_command(app).commands.items()
    }
    takes = [verb for verb, names in arguments.items() if "EXP" in names]
    assert {"expand", "plan", "dry-run", "sweep", "run", "status", "logs", "cancel", "collect", "settle"} <= set(takes)
    for verb in takes:
        given = {"EXP": old, "RUN": "abc", "FILE": "out.pt"}
        called = nfrepro_here(verb, *(given[name] for name in arguments[verb]))
        assert (called.returncode, called.stdout) == (2, ""), verb
        assert called.stderr == f"nfrepro: {old} is now {new}: nfrepro sweep {new}\n", verb
    assert f"{old} is now {new}" in nfrepro_here("expand", f"experiments/{old}.yaml").stderr


def test_an_experiment_of_ones_own_may_have_an_old_name(experiments: Path, nfrepro: Call) -> None:
    (experiments / "depth.yaml").write_text(TINY)
    assert nfrepro("expand", "depth", "--scale", "smoke").returncode == 0


def test_a_wrong_key_names_file_and_line_and_starts_nothing(nfrepro: Call, experiments: Path, results: Path) -> None:
    path = experiments / "tiny.yaml"
    path.write_text(
        TINY.replace("lr_per_256: 0.5", "lr_per_256: 0.5, wramup_epochs: 1").replace("model.alpha", "model.alhpa")
    )
    called = nfrepro("sweep", "tiny", "--scale", "smoke")
    assert called.returncode == 2
    assert (
        f"{path}:7: train.wramup_epochs: unknown key, did you mean train.warmup_epochs? (and 1 more)" in called.stderr
    )
    assert len(called.stderr.splitlines()) == 1
    assert not results.exists()


def test_missing_data_starts_nothing(experiments: Path, results: Path, nfrepro: Call) -> None:
    path = experiments / "tiny.yaml"
    path.write_text(
        TINY.replace("{name: synthetic, classes: 4, pixels: 8, ", "{name: image_folder, folder: flowers, pixels: 8, ")
    )
    called = nfrepro("sweep", "tiny", "--scale", "smoke")
    assert called.returncode == 2
    assert "flowers" in called.stderr
    assert len(called.stderr.splitlines()) == 1
    assert not results.exists()


def test_run_executes_one(nfrepro: Call, results: Path) -> None:
    name = nfrepro("expand", "tiny", "--scale", "smoke").stdout.splitlines()[2]
    called = nfrepro("run", "tiny", name.rpartition("-")[2], "--scale", "smoke")
    assert called.returncode == 0, called.stderr
    assert [path.name for path in results.glob("runs/*")] == [name]
    record = json.loads((results / "runs" / name / "run.json").read_text())
    assert record["status"] == "completed"
    assert record["id"] == name
    assert record["provenance"]["data"] == "synthetic"
    assert record["provenance"]["versions"]["torch"]
    assert record["final"]["steps"] == 12


def test_status_and_collect_tell_what_is_missing(nfrepro: Call, results: Path) -> None:
    names = nfrepro("expand", "tiny", "--scale", "smoke").stdout.splitlines()
    nfrepro("run", "tiny", names[0], "--scale", "smoke")
    states = json.loads(nfrepro("status", "tiny", "--scale", "smoke", "--json").stdout)
    assert all({"id", "state", "progress", "metrics"} <= set(state) for state in states)
    assert [(state["id"], state["state"]) for state in states] == [
        (name, "completed" if name == names[0] else "waiting") for name in names
    ]
    assert states[0]["progress"] == 1.0
    assert states[0]["metrics"]["epoch"] == 2
    assert nfrepro("status", "tiny", "--scale", "smoke").stdout.splitlines()[-1] == "4 runs: 1 completed, 3 waiting"
    assert nfrepro("collect", "tiny", "--scale", "smoke").returncode == 0
    table = (results / "tiny" / "smoke" / "runs.csv").read_text().splitlines()
    assert len(table) == 5
    assert table[0].startswith("id,state,in_experiment,seed,data.")
    assert sum(",missing,True," in line for line in table) == 3


def test_runs_that_left_the_experiment_stay_in_the_table_but_are_marked(
    nfrepro: Call, results: Path, experiments: Path
) -> None:
    nfrepro("sweep", "tiny", "--scale", "smoke", "--jobs", "1")
    (experiments / "tiny.yaml").write_text(TINY.replace("[0.2, 1.0]", "[0.2]"))
    called = nfrepro("collect", "tiny", "--scale", "smoke")
    assert "2 stored runs are not part of the experiment as it is now" in called.stdout
    table = (results / "tiny" / "smoke" / "runs.csv").read_text()
    assert (table.count(",completed,True,"), table.count(",completed,False,")) == (2, 2)


def test_identities_are_what_they_always_were() -> None:
    # A changed id orphans stored results: change one only together with SCHEMA_VERSION, and say so.
    known = json.loads(KNOWN_IDS.read_text())
    for experiment, scales in known.items():
        for scale, ids in scales.items():
            called = nfrepro_here("expand", experiment, "--scale", scale)
            assert called.returncode == 0, called.stderr
            assert [line.split()[0] for line in called.stdout.splitlines()] == ids


@pytest.mark.parametrize(
    "arguments", [["--help"], ["expand", "tiny", "--scale", "smoke"], ["list"], ["status", "tiny", "--scale", "smoke"]]
)
def test_quick_verbs_load_no_torch(experiments: Path, arguments: list[str]) -> None:
    heavy = ("torch", "torchvision", "pandas", "scipy", "matplotlib", "numpy")
    program = (
        "import sys; from nfrepro.cli import app\n"
        f"try: app({arguments!r}, standalone_mode=False)\n"
        f"finally: print('loaded', [m for m in {heavy!r} if m in sys.modules])"
    )
    called = subprocess.run(
        [sys.executable, "-c", program],
        env={"NFREPRO_EXPERIMENTS": str(experiments), "NFREPRO_RESULTS": "/nonexistent", "PATH": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert called.stdout.splitlines()[-1] == "loaded []", called.stderr


def test_a_closed_pipe_is_no_traceback(nfrepro: Call, experiments: Path) -> None:
    line = f"{sys.executable} -m nfrepro expand tiny --scale smoke --json --experiments {experiments} | head -n 1"
    called = subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in called.stderr


def test_overrides_replace_no_table(nfrepro: Call, results: Path) -> None:
    nfrepro("collect", "tiny", "--scale", "smoke")
    folder = results / "tiny" / "smoke"
    before = (folder / "runs.csv").read_bytes()
    called = nfrepro("sweep", "tiny", "--scale", "smoke", "--set", "seed=0", "--set", "model.alpha=[0.2]")
    assert called.returncode == 0
    assert called.stdout.splitlines()[-2:] == [
        f"table: {folder}/runs-model.alpha=_0.2_-seed=0~9f997b3c.csv",
        "1 run: 1 completed",
    ]
    assert len((folder / "runs-model.alpha=_0.2_-seed=0~9f997b3c.csv").read_text().splitlines()) == 2
    assert (folder / "runs.csv").read_bytes() == before


def test_the_version_is_that_of_the_package(nfrepro: Call) -> None:
    called = nfrepro("--version")
    assert (called.returncode, called.stdout) == (0, f"nfrepro {importlib.metadata.version('nfrepro')}\n")
