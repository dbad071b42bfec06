"""The benchmark of launching: that it measures what it says, on few and short runs. Its numbers are for people."""

import re
from pathlib import Path

import pytest
from tiny_experiment import Call

from nfrepro.bench.launch import TRAINING, growth_line, make_sweep
from nfrepro.bench.workers import BATCH, Clock, runs_of, training_seconds
from nfrepro.launch.devices import Resources
from nfrepro.launch.local_queue import execute_all


def test_a_further_run_costs_the_difference_without_what_all_sweeps_cost() -> None:
    # 0.5 s of start, 1 ms a run up to 1,000, 3 ms beyond.
    line = growth_line("status", (100, 1_000, 10_000), (0.6, 1.5, 28.5))
    assert line.split() == ["status", "0.600", "s", "1.500", "s", "28.500", "s", "1.000,", "then", "3.000"]


def test_a_sweep_has_the_runs_asked_for(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "many", TRAINING, 7)
    assert sorted(run.config["seed"] for run in sweep.runs) == list(range(7))
    assert sweep.call("expand", "many").split() == [run.id for run in sweep.runs]


def test_the_clock_has_the_time_in_the_training_loop_and_what_stands_around_it(tmp_path: Path) -> None:
    runs, clock = runs_of(tmp_path, BATCH, seeds=range(2)), Clock()
    execute_all(runs, tmp_path / "results", Resources(("cpu",), 1), 60.0, clock.observe)
    inside = [training_seconds(tmp_path / "results", run) for run in runs]
    assert all(0 < training < clock.seconds(run) for run, training in zip(runs, inside, strict=True))
    assert clock.ended[runs[0].id] <= clock.began[runs[1].id]
    never_begun = runs_of(tmp_path, 2 * BATCH, seeds=range(1))[0]
    with pytest.raises(RuntimeError, match="did not finish"):
        training_seconds(tmp_path / "results", never_begun)


@pytest.mark.slow
def test_a_trial_measures_everything(nfrepro: Call) -> None:
    called = nfrepro("bench", "launch", "--quick")
    assert called.returncode == 0, called.stderr
    lines = called.stdout.splitlines()
    for command in ("expand", "sweep, what sbatch gets", "sweep, all runs finished", "status", "collect"):
        assert any(re.match(rf"{command} +[\d.]+ s +[\d.]+ s +-?[\d.]+$", line) for line in lines), command
    assert any("in the training loop take" in line for line in lines)
    ways = [line for line in lines if "runs an hour" in line]
    assert re.search(r"1 at once, \d+ threads? each.* 1\.00 x \(min 1\.00, max 1\.00\)$", ways[0])
    assert all(float(line.split(" each")[1].split()[0]) > 0 for line in ways)


def test_only_some_have_a_trial(nfrepro: Call) -> None:
    called = nfrepro("bench", "specs", "--quick")
    assert called.returncode == 2
    assert called.stderr.strip() == "nfrepro: bench specs: has no --quick; those that have it are launch, calibration"
