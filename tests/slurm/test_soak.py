"""The parts of the soak that need no SLURM: when faults strike, and what the verdict finds."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import soak
from soak_faults import KINDS, schedule
from soak_sweeps import describe, found
from soak_verdict import Account, begun_too_often, differences, left_behind, report, requeues, trained_twice

from nfrepro.specs import expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

RUNS = {"one_by_one/a": ({"top1": 50.0, "weights_sha256": "0f"}, [{"epoch": 1}]), "one_by_one/b": ({"top1": 25.0}, [])}


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """In place of this folder's, which brings up SLURM."""


def test_faults_are_a_function_of_the_seed() -> None:
    faults = schedule(seed=0, rounds=3)
    assert faults == schedule(seed=0, rounds=3)
    assert faults != schedule(seed=1, rounds=3)
    for start in range(0, len(faults), len(KINDS)):
        assert Counter(fault.kind for fault in faults[start : start + len(KINDS)]) == Counter(list(KINDS))
    shares = [fault.share for fault in faults]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] < 1


class Emptying:
    """Sweeps whose runs are done, while so many jobs are in the queue, one less each time it is looked at."""

    def __init__(self, jobs: int) -> None:
        self.jobs, self.problems = jobs, list[str]()

    def done(self) -> int:
        return 4

    def queued(self) -> int:
        self.jobs -= 1
        return self.jobs

    def mend(self) -> None:
        pass


@pytest.mark.parametrize("deadline", [math.inf, -math.inf])
def test_it_is_over_when_the_queue_is_empty_too(
    deadline: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(soak, "SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(soak, "ask", lambda *words: "")
    sweeps = Emptying(3)
    soak.disturb(sweeps, 4, (), deadline)  # type: ignore[arg-type]
    assert sweeps.problems == (
        [] if deadline > 0 else ["the time is over: 4 of 4 runs are done, 2 jobs are in the queue"]
    )
    assert sweeps.jobs == (0 if deadline > 0 else 2)
    assert "2 jobs in the queue" in capsys.readouterr().err or deadline < 0


def test_equal_results_are_equal() -> None:
    assert differences(RUNS, json.loads(json.dumps(RUNS), parse_float=float) | RUNS) == []


@pytest.mark.parametrize(
    ("changed", "finding"),
    [
        (
            {"one_by_one/a": ({"top1": 50.0, "weights_sha256": "0e"}, [{"epoch": 1}])},
            "one_by_one/a: its result differs",
        ),
        ({"one_by_one/a": ({"top1": 50.0, "weights_sha256": "0f"}, [])}, "one_by_one/a: its result differs"),
        ({"one_by_one/b": ({"top1": 25.000000000000004}, [])}, "one_by_one/b: its result differs"),
        ({"one_by_one/c": ({}, [])}, "one_by_one/c: is no run of these sweeps"),
    ],
)
def test_a_changed_bit_and_a_strange_run_are_found(changed: dict[str, object], finding: str) -> None:
    assert differences(RUNS, RUNS | changed) == [finding]


def test_a_missing_run_is_found() -> None:
    assert differences(RUNS, {"one_by_one/a": RUNS["one_by_one/a"]}) == ["one_by_one/b: has no result"]


LOG = """\
submitit INFO (2026-01-01 10:00:00,000) - Starting with JobEnvironment(job_id=7_0, hostname=vm, local_rank=0(1))
10:00:01 a: 40/80  epoch 1/2  loss 1.300  top1 50.0 %  255 images/s
10:00:02 a: completed: top1 50.00 %, 1 s of training
10:00:02 b: interrupted: its worker process was killed by SIGKILL (out of memory?)
submitit INFO (2026-01-01 10:00:09,000) - Starting with JobEnvironment(job_id=7_0, hostname=vm, local_rank=0(1))
10:00:10 a: completed: was done before
10:00:11 b: completed: top1 25.00 %, 1 s of training
"""


def test_a_run_that_was_trained_twice_is_found() -> None:
    assert trained_twice({"one_by_one": LOG, "side_by_side": LOG}) == []
    again = LOG + "10:00:12 a: completed: top1 50.00 %, 1 s of training\n"
    assert trained_twice({"one_by_one": again, "side_by_side": LOG}) == ["one_by_one/a: trained to the end 2 times"]


def test_jobs_that_started_again_are_counted() -> None:
    assert requeues({"one_by_one": LOG}) == 1


def test_more_executions_than_faults_explain_are_found() -> None:
    assert begun_too_often({"a": 1, "b": 3}, faults=2) == []
    assert begun_too_often({"a": 0, "b": 4}, faults=2) == [
        "a: begun 0 times, with 2 faults",
        "b: begun 4 times, with 2 faults",
    ]


def test_what_is_left_behind_is_found(tmp_path: Path) -> None:
    for results in ("undisturbed", "disturbed"):
        folder = tmp_path / results / "runs" / "a"
        folder.mkdir(parents=True)
        (folder / "run.json").touch()
    (tmp_path / "disturbed" / ".slurm" / "one_by_one" / "smoke" / "0001").mkdir(parents=True)
    assert left_behind(tmp_path / "undisturbed", tmp_path / "disturbed") == []
    names = [".checkpoint-1.pt.x.tmp", "checkpoint-1.pt", "claim", "progress.json"]
    for name in names:
        (folder / name).touch()
    (tmp_path / "disturbed" / ".slurm" / "one_by_one" / "smoke" / "claim").touch()
    assert left_behind(tmp_path / "undisturbed", tmp_path / "disturbed") == [
        ".slurm/one_by_one/smoke/claim: left behind",
        *(f"runs/a/{name}: left behind" for name in names),
    ]


def test_the_sweeps_have_so_many_runs_and_no_results_yet(tmp_path: Path) -> None:
    assert describe(tmp_path / "experiments", 10) == 12
    runs = [
        run
        for name in ("one_by_one", "side_by_side")
        for run in expand(load_experiment(name, tmp_path / "experiments"), "smoke", SCHEMAS)
    ]
    assert len({(run.experiment, run.id) for run in runs}) == 12
    assert found(tmp_path / "results") == {}


@pytest.mark.parametrize(
    ("wrong", "verdict"), [([], "**Verdict: passed.**"), (["a: b"], "**Verdict: failed, 1 findings.**")]
)
def test_the_report_says_what_was_wrong(wrong: list[str], verdict: str) -> None:
    account = Account(0, "A machine.", 2, {"a fault": 1}, 3, 4, 0, {"a": 1, "b": 2}, 60.0, 120.0, wrong)
    lines = report(account).splitlines()
    assert verdict in lines
    assert ("- a: b" in lines) == bool(wrong)
    assert "| a fault | 1 |" in lines
    assert "| runs per minute, disturbed on SLURM | 1 |" in lines
