"""The verb `settle`, with real runs: it runs the seeds that are due, looks, records, and stops when nothing is open."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from in_this_process import nfrepro_here
from tiny_experiment import Call

from nfrepro.specs import Run

MOMENTS = """\
title: Moments of one layer
task: layer_moments
set: {fan_in: 32, fan_out: 8, samples: 512}
arms:
  plain: {set: {weights: plain}}
  scaled: {set: {weights: scaled_ws}}
grid: {seed: [0, 1, 2, 3, 4, 5, 6, 7]}
scales: {laptop: {}}
"""
CLAIM = """\
  {name}:
    statement: {name} is so
    source: here
    stated_by: us
    known_from: computed
    paper: null
    tests:
      - experiment: moments
        where: {{weights: {weights}}}
        quantity: {{name: number, column: variance_error}}
        rule: {rule}
"""
HEAD = "looks: {laptop: [4, 6, 8]}\nblocks: {first: [moments]}\nclaims:\n"
CLEAR = CLAIM.format(name="C01", weights="plain", rule="{high: 10}")
HOPELESS = CLAIM.format(name="C02", weights="scaled_ws", rule="{high: 0.025}")


@pytest.fixture
def study(experiments: Path) -> Path:
    (experiments / "moments.yaml").write_text(MOMENTS)
    (experiments / "claims.yaml").write_text(HEAD + CLEAR)
    return experiments


def looks(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (results / "looks.jsonl").read_text().splitlines()]


def runs(results: Path) -> int:
    return len([path for path in (results / "runs").iterdir() if (path / "run.json").exists()])


def test_a_clear_claim_takes_four_seeds_and_no_more(study: Path, results: Path, nfrepro: Call) -> None:
    called = nfrepro("settle", "--scale", "laptop", "--jobs", "1")
    assert called.returncode == 0, called.stderr
    assert "first: 4 of 4 runs left for the next looks" in called.stdout
    assert "C01 looked at with 4 seeds an arm: supported" in called.stdout
    assert called.stdout.splitlines()[-1] == "no claim is open at scale laptop"
    (look,) = looks(results)
    assert {key: look[key] for key in ("claim", "scale", "n", "verdict")} == {
        "claim": "C01", "scale": "laptop", "n": 4, "verdict": "supported"
    }  # fmt: skip
    assert look["arms"] == {"moments test 1 where": 4}
    assert look["p_support"] <= look["level_support"] == pytest.approx(0.00153, abs=1e-5)
    assert runs(results) == 4
    again = nfrepro("settle", "--scale", "laptop")
    assert again.stdout == "no claim is open at scale laptop\n"
    assert len(looks(results)) == 1


def test_an_open_claim_takes_seeds_until_its_looks_are_over(study: Path, results: Path, nfrepro: Call) -> None:
    (study / "claims.yaml").write_text(HEAD + CLEAR + HOPELESS)
    called = nfrepro("settle", "--scale", "laptop", "--jobs", "1")
    assert called.returncode == 0, called.stderr
    had = [(look["claim"], look["n"]) for look in looks(results)]
    assert had[:2] == [("C01", 4), ("C02", 4)]
    assert had[2:] in ([("C02", 6)], [("C02", 6), ("C02", 8)])  # it may be hopeless at six
    verdicts = {claim["id"]: claim for claim in json.loads(nfrepro("claims", "--json").stdout)}
    assert verdicts["C01"]["verdict"] == "supported"
    assert verdicts["C02"]["ending"] != "open"


def test_what_is_due_is_told_before_anything_runs(study: Path, results: Path, nfrepro: Call) -> None:
    called = nfrepro("settle", "--scale", "laptop", "--dry-run")
    assert called.returncode == 0, called.stderr
    assert "first: 4 of 4 runs left" in called.stdout
    line = next(line for line in called.stdout.splitlines() if line.startswith("C01"))
    assert line.split()[1:3] == ["4", "4"]
    assert called.stdout.splitlines()[-1] == "1 claim is open; next looks: 4 runs; to the last looks at most 8"
    assert not results.exists()


def test_hours_that_are_over_leave_the_rest_to_the_next_call(study: Path, results: Path, nfrepro: Call) -> None:
    called = nfrepro("settle", "--scale", "laptop", "--hours", "0")
    assert called.returncode == 0, called.stderr
    assert called.stdout.splitlines()[-1] == "0 hours are over; the same command goes on"
    assert not (results / "looks.jsonl").exists()


def test_slurm_gets_what_is_due(study: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Run] = []
    monkeypatch.setattr("nfrepro.cli.settle.sweep_on_slurm", lambda runs, *_: given.extend(runs))
    where = ("--experiments", str(study), "--results", str(results))
    called = nfrepro_here("settle", "--scale", "laptop", "--executor", "slurm", *where)
    assert called.returncode == 0, called.stderr
    assert sorted(run.config["seed"] for run in given) == [0, 1, 2, 3]
    assert called.stdout.splitlines()[-1] == "when they are done: the same command"
    assert not (results / "looks.jsonl").exists()


def test_cancelled_runs_stay_cancelled(study: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a `cancel` from elsewhere stops is not begun again and again by the same call."""
    begun = []

    def cancelled(runs: Sequence[Run], *_: object) -> None:
        begun.append(len(runs))

    monkeypatch.setattr("nfrepro.cli.settle.execute_locally", cancelled)
    where = ["--experiments", str(study), "--results", str(results)]
    called = nfrepro_here("settle", "--scale", "laptop", "--jobs", "1", *where)
    assert (called.returncode, begun) == (1, [4])
    assert called.stdout.splitlines()[-1] == "4 runs stopped before the end: nfrepro status moments --scale laptop"


def test_a_look_whose_runs_were_redone_is_said(study: Path, results: Path, nfrepro: Call) -> None:
    assert nfrepro("settle", "--scale", "laptop", "--jobs", "1").returncode == 0
    (look,) = looks(results)
    (results / "looks.jsonl").write_text(json.dumps(look | {"p_support": 0.5}) + "\n")
    again = nfrepro("settle", "--scale", "laptop")
    assert again.returncode == 0
    assert "C01 at n = 4: p_support was 0.5 when it was looked at" in again.stderr
    assert len(looks(results)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scale", "labtop"), "--scale labtop: unknown, did you mean laptop?"),
        (("tiny", "--scale", "laptop"), "tiny: no claim is tested on it at scale laptop"),
        (("--scale", "laptop", "--executor", "cloud"), "--executor cloud: there is: local, slurm"),
        (("--scale", "laptop", "--hours", "nan"), "--hours'"),
        (("--scale", "laptop", "--executor", "slurm", "--jobs", "2"), "--jobs and --threads are not for slurm"),
        (("--scale", "laptop", "--executor", "slurm", "--hours", "1"), "--jobs and --threads are not for slurm"),
    ],
)
def test_calls_that_make_no_sense(study: Path, nfrepro: Call, arguments: tuple[str, ...], message: str) -> None:
    called = nfrepro("settle", *arguments)
    assert called.returncode == 2
    assert message in called.stderr
    assert len(called.stderr.splitlines()) == 1


def test_a_damaged_record_of_looks_is_refused_by_line(study: Path, results: Path, nfrepro: Call) -> None:
    results.mkdir()
    (results / "looks.jsonl").write_text('{"claim": "C01"}\n')
    called = nfrepro("settle", "--scale", "laptop", "--hours", "0")
    assert called.returncode == 2
    assert "looks.jsonl:1: not a record of a look" in called.stderr
