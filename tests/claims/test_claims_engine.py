"""Claims as data: verdicts by closed cases and simulation, quantities on small tables, the file and its errors."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy import stats

from nfrepro.claims import lines as claim_lines
from nfrepro.claims.checks import check_looks, check_runs
from nfrepro.claims.claim import select_claims
from nfrepro.claims.file import load_claims
from nfrepro.claims.judge import ClaimVerdict, judge, judge_best
from nfrepro.claims.measured_run import MeasuredRun, NoValue
from nfrepro.claims.quantities import Quantity
from nfrepro.claims.rule import Course, combine, p_of_claim, rule
from nfrepro.claims.runs import select
from nfrepro.errors import InputError
from nfrepro.runs import store
from nfrepro.runs import table as collection
from nfrepro.specs import expand, load_experiment
from nfrepro.stats.intervals import Bounds, mean_interval
from nfrepro.stats.permutation import permutation_p
from nfrepro.stats.samples import MeanSample, Missing, PValues, Sample
from nfrepro.tasks.registry import SCHEMAS

ROOT = Path(__file__).parents[2]
BOUNDS = st.tuples(st.floats(-5, 5), st.floats(0, 5)).map(lambda pair: Bounds(pair[0], pair[0] + pair[1]))
VALUES = st.lists(st.floats(-10, 10), min_size=2, max_size=8)


@dataclass(frozen=True)
class Stated:
    """A sample that has these p-values."""

    outside: float
    inside: float

    def p_values(self) -> PValues:
        return PValues(self.outside, self.inside)


def verdict_on(values: Sequence[float], bounds: Bounds) -> str:
    """On a claim of a single test that is alone in its list."""
    return rule([Course((MeanSample.of(values, bounds).p_values(),), (1,))])[0].verdict


# Verdicts


def test_a_single_test_is_decided_by_the_95_percent_interval() -> None:
    interval = mean_interval([1.0, 2.0, 3.0])  # 2 ± 2.484
    for shift, verdict in ((1e-6, "supported"), (-1e-6, "inconclusive")):
        assert verdict_on((1.0, 2.0, 3.0), Bounds(high=interval.high + shift)) == verdict
        assert verdict_on((1.0, 2.0, 3.0), Bounds(low=interval.low - shift)) == verdict
    assert verdict_on((1.0, 2.0, 3.0), Bounds(high=interval.low - 1e-6)) == "contradicted"
    assert verdict_on((1.0, 2.0, 3.0), Bounds(high=interval.low + 1e-6)) == "inconclusive"


@settings(max_examples=50)
@given(st.lists(st.tuples(VALUES, BOUNDS), min_size=1, max_size=6))
def test_more_claims_decide_nothing_that_one_alone_leaves_open(claims: list[tuple[list[float], Bounds]]) -> None:
    courses = [Course((MeanSample.of(*claim).p_values(),), (1,)) for claim in claims]
    for course, together in zip(courses, rule(courses), strict=True):
        assert together.verdict in (rule([course])[0].verdict, "inconclusive")


@given(VALUES, BOUNDS)
def test_no_evidence_is_both_for_and_against(values: list[float], bounds: Bounds) -> None:
    p = MeanSample.of(values, bounds).p_values()
    assert 0 <= p.outside <= 1
    assert 0 <= p.inside <= 1
    assert p.outside + p.inside >= 1 - 1e-9 or len(set(values)) == 1


def test_claims_without_runs_loosen_no_verdict() -> None:
    course, empty = Course((PValues(0.02, 1.0),), (1,)), Course((), (1,))
    assert rule([course])[0].verdict == "supported"
    assert rule([course, empty])[0].verdict == "inconclusive"


def test_a_claim_holds_if_all_its_tests_do_and_fails_if_one_does() -> None:
    """An intersection-union: its p-value is the largest; that it fails is the smallest, times their number."""
    samples: list[Sample | Missing] = [Stated(0.001, 1.0), Stated(0.02, 0.9), Stated(0.4, 0.01)]  # type: ignore[list-item]
    assert p_of_claim(samples, "all") == PValues(0.4, 0.03)
    assert p_of_claim(samples, "any") == PValues(0.003, 1.0)
    assert p_of_claim([*samples, Missing("no run")], "all") == PValues(1.0, 0.04)
    assert p_of_claim([], "all") == PValues(1.0, 1.0)


def test_many_tests_of_one_claim_make_no_other_claim_stricter() -> None:
    few, many = ([Stated(0.012, 1.0)] * count for count in (1, 20))
    for samples in (few, many):
        courses = [Course((p_of_claim(samples, "all"),), (1,)), Course((PValues(0.02, 1.0),), (1,))]  # type: ignore[arg-type]
        assert [ruling.verdict for ruling in rule(courses)] == ["supported", "supported"]


@pytest.mark.parametrize(
    ("verdicts", "all_of_them", "any_of_them"),
    [
        (["supported", "supported"], "supported", "supported"),
        (["supported", "not run"], "not run", "supported"),
        (["contradicted", "supported"], "contradicted", "supported"),
        (["contradicted", "not run"], "contradicted", "not run"),
        ([], "not run", "not run"),
    ],
)
def test_exact_verdicts_are_combined_by_value(verdicts: list[Any], all_of_them: str, any_of_them: str) -> None:
    assert combine(verdicts, "all") == all_of_them
    assert combine(verdicts, "any") == any_of_them


def test_seeds_come_until_it_is_decided_or_is_hopeless() -> None:
    looks = (4, 6, 8)
    clear, level, open_ = PValues(1e-5, 1.0), PValues(0.5, 0.5), PValues(0.02, 1.0)
    for p_values, verdict, ending in (
        ((), "inconclusive", "open"),
        ((level,), "inconclusive", "open"),  # too early to give up
        ((level, level), "inconclusive", "stopped for futility"),
        ((level, open_), "inconclusive", "open"),
        ((level, level, level), "inconclusive", "final"),
        ((clear,), "supported", ""),
        ((clear, level, level), "supported", ""),  # a boundary that was crossed is final
    ):
        (ruling,) = rule([Course(p_values, looks)])
        assert (ruling.verdict, ruling.ending) == (verdict, ending), p_values
    (ruling,) = rule([Course((level, level), (4, 6, 8, 12))])
    assert ruling.ending == "stopped for futility"


# Quantities

BLOCKS = pd.DataFrame({"block": [1, 2, 3, 4], "stage": [1, 1, 2, 2], "transition": [True, False, True, False]})
CURVES = {"avg_sq_mean": [1.0, 4.0, 2.0, 3.0], "avg_var": [2.0, 3.0, 2.2, 2.5], "res_var": [1.0, 0.9, 0.5, 1.2]}


def make_run(folder: Path, curves: dict[str, list[float]] = CURVES, **columns: Any) -> MeasuredRun:
    rows = [BLOCKS.assign(statistic=name, measured=values, predicted="") for name, values in curves.items()]
    folder.mkdir(parents=True, exist_ok=True)
    pd.concat(rows).to_csv(folder / "propagation.csv", index=False)
    return MeasuredRun({"id": folder.name, "model.alpha": 1.0, **columns}, folder)


def quantity(**arguments: Any) -> Any:
    return TypeAdapter(Quantity).validate_python(arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"name": "number", "column": "a"}, 3.0),
        ({"name": "number", "column": "a", "relative_to": "b"}, 1.5),
        ({"name": "number", "column": "a", "relative_to": 4.0}, 0.75),
        ({"name": "curve_extreme", "statistic": "avg_sq_mean", "extreme": "largest"}, 4.0),
        ({"name": "curve_extreme", "statistic": "avg_sq_mean", "at": "stage_ends", "extreme": "smallest"}, 3.0),
        ({"name": "curve_extreme", "statistic": "avg_sq_mean", "relative_to": "avg_var", "extreme": "largest"}, 4 / 3),
        ({"name": "curve_deviation", "statistic": "res_var", "target": 1}, 0.5),
        (
            {"name": "curve_deviation", "statistic": "avg_var", "at": "transitions", "target": 2.5, "relative": True},
            0.2,
        ),
        ({"name": "ledger_deviation"}, 1 / 6),  # 2, 3, 2, 3 against 2, 3, 2.2, 2.5
        ({"name": "transition_ratio", "statistic": "avg_var"}, 2.2 / 3),
        ({"name": "growth", "statistic": "avg_sq_mean"}, 2.0),
        ({"name": "curve_distance", "statistic": "avg_var"}, 1.0),
        ({"name": "closeness", "column": "a", "target": 2.5}, -1.0),
    ],
    ids=str,
)
def test_quantities_by_hand(tmp_path: Path, arguments: dict[str, Any], expected: float) -> None:
    run = make_run(tmp_path / "run", a=3.0, b=2.0)
    other = make_run(tmp_path / "other", CURVES | {"avg_var": [2.0, 3.0, 1.1, 2.5]}, a=4.0)
    assert quantity(**arguments).value(run, other) == pytest.approx(expected)
    assert str(quantity(**arguments))


def test_numbers_that_are_not_there_are_said(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", a=math.nan, b="text", c=1.0, d=0.0)
    for arguments in (
        {"name": "number", "column": "a"},
        {"name": "number", "column": "b"},
        {"name": "number", "column": "c", "relative_to": "d"},
        {"name": "growth", "statistic": "input_correlation"},
    ):
        with pytest.raises(NoValue, match="run run"):
            quantity(**arguments).value(run, None)
    with pytest.raises(NoValue, match=r"no propagation\.csv"):
        quantity(name="growth", statistic="avg_var").value(MeasuredRun({"id": "x"}, tmp_path), None)


def test_every_quantity_is_documented() -> None:
    named = re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "claims.md").read_text(), flags=re.MULTILINE)
    known = TypeAdapter(Quantity).json_schema()["discriminator"]["mapping"]
    assert sorted(named) == sorted(known)


# Runs

EXPERIMENT = """\
title: t
task: probe
set: {model: {name: nf_resnet, depth: 50}}
grid: {model.alpha: [0.2, 1.0], seed: [0, 1, 2]}
scales: {laptop: {}}
"""
CLAIMS = """\
baseline:
  study: {model.alpha: 0.2}
claims:
  C01:
    statement: small
    source: here
    stated_by: us
    known_from: authors
    paper: null
    tests:
      - experiment: study
        quantity: {name: number, column: x}
        rule: {high: 1}
"""
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes claims about an experiment `study`; returns its folder."""

    def written(claims: str = CLAIMS) -> Path:
        folder = tmp_path / "experiments"
        folder.mkdir(exist_ok=True)
        (folder / "study.yaml").write_text(EXPERIMENT)
        (folder / "claims.yaml").write_text(claims)
        return folder

    return written


def write_table(results: Path, **changes: Any) -> None:
    """runs.csv of `study`: x is near 0.5 for alpha 0.2, and near 2 for alpha 1."""
    rows = [
        {"id": f"a{alpha}s{seed}", "state": "completed", "in_experiment": True, "seed": seed, "model.name": "nf_resnet"}
        | {"model.alpha": alpha, "x": (0.5 if alpha == 0.2 else 2.0) + 0.01 * seed}
        | changes.get(f"a{alpha}s{seed}", {})
        for alpha in (0.2, 1.0)
        for seed in (0, 1, 2)
    ]
    folder = results / "study" / "laptop"
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / "runs.csv", index=False)


def judged(folder: Path, results: Path) -> ClaimVerdict:
    return judge(load_claims(folder, SCHEMAS), results, "laptop")[0]


def test_a_claim_from_file_to_verdict(write: Write, results: Path) -> None:
    write_table(results)
    found = judged(write(), results)
    report = found.report()
    assert {key: report[key] for key in ("id", "statement", "verdict", "scale", "n", "paper")} == {
        "id": "C01", "statement": "small", "verdict": "supported", "scale": "laptop", "n": 3, "paper": None
    }  # fmt: skip
    assert report["estimate"] == pytest.approx(0.51)
    assert report["interval"] == pytest.approx([0.51 - 0.024841, 0.51 + 0.024841], abs=1e-5)
    assert next(iter(claim_lines.overview(found))).startswith("C01  supported")
    assert report["commands"] == ["nfrepro sweep study --scale laptop", "nfrepro claims C01 --scale laptop"]
    assert report["tests"][0]["arms"][0]["values"] == {"0": 0.5, "1": 0.51, "2": 0.52}


@pytest.mark.parametrize(
    ("test", "verdict", "reason"),
    [
        ("where: {model.alpha: 1.0}", "contradicted", ""),
        ("where: {model.alpha: [0.2, 1.0]}\n        across: largest", "contradicted", ""),
        ("where: {model.alpha: [0.2, 1.0]}\n        across: smallest", "supported", ""),
        ("where: {model.alpha: 0.3}", "not run", "no such runs"),
        ("where: {model.alpha: 1.0, seed: 0}", "not run", "1 completed seed: an interval needs 2"),
    ],
)
def test_which_runs_are_meant(write: Write, results: Path, test: str, verdict: str, reason: str) -> None:
    write_table(results)
    found = judged(write(CLAIMS.replace("experiment: study", f"experiment: study\n        {test}")), results)
    assert found.verdict == verdict
    assert reason in found.decision.method


def test_pairs_are_made_by_seed(write: Write, results: Path) -> None:
    write_table(results)
    found = judged(write(COMPARED), results)
    # Each seed adds as much to both runs. Three equal differences are no certainty: signs give 1 / 8.
    assert (found.verdict, found.report()["estimate"]) == ("inconclusive", pytest.approx(1.5))
    assert found.decision.p == 0.125
    assert found.report()["tests"][0]["runs"] == {"completed": 6}


def test_unfinished_runs_are_said_and_diverged_ones_counted(write: Write, results: Path) -> None:
    folder = write()
    assert "no table" in judged(folder, results).decision.method
    write_table(results, **{"a0.2s0": {"state": "failed", "x": None}, "a0.2s1": {"state": "missing", "x": None}})
    found = judged(folder, results)
    assert (found.verdict, found.decision.method) == ("not run", "of 3 runs: 1 failed, 1 missing")
    write_table(results, **{"a0.2s0": {"state": "diverged", "x": None}})
    found = judged(folder, results)
    assert found.report()["n"] == 2
    assert "1 diverged, not counted in n" in "\n".join(claim_lines.overview(found))
    write_table(results, **{"a0.2s0": {"x": None}})
    assert "no finite x" in judged(folder, results).decision.method


COMPARED = CLAIMS.replace("quantity: {name: number,", "quantity: {name: number_difference,").replace(
    "experiment: study",
    "experiment: study\n        where: {model.alpha: 1.0}\n        against: {model.alpha: 0.2}",
)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("train.precision", ("float32", "bfloat16"), "differ in train.precision: bfloat16 and float32; say which"),
        ("data.name", ("cifar10", "fashion_mnist"), "differ in data.name: cifar10 and fashion_mnist; say which"),
        ("data.train_images", (6000, 100), "differ in data.train_images: 100 and 6000; say which"),
    ],
)
def test_runs_of_different_data_or_precision_are_not_compared(
    write: Write, results: Path, column: str, values: tuple[Any, Any], message: str
) -> None:
    write_table(results, **{f"a{alpha}s{s}": {column: values[alpha == 1.0]} for alpha in (0.2, 1.0) for s in range(3)})
    with pytest.raises(InputError, match=rf"claims\.yaml:11: its runs {message}"):
        judged(write(COMPARED), results)


def test_a_pair_without_its_other_half_is_not_run(write: Write, results: Path) -> None:
    write_table(results)
    table = results / "study" / "laptop" / "runs.csv"
    rows = pd.read_csv(table)
    rows[rows["id"] != "a0.2s1"].to_csv(table, index=False)
    found = judged(write(COMPARED), results)
    assert (found.verdict, found.decision.method) == ("not run", "seed 1: no run to compare with")
    independent = COMPARED.replace("rule:", "seeds: independent\n        rule:")
    assert judged(write(independent), results).report()["tests"][0]["arms"][1]["values"] == {"0": 0.5, "2": 0.52}


def store_runs(folder: Path, results: Path) -> list[Path]:
    """Records of all runs of `study`, with x = 0.1 + 0.2, and their table; returns the records."""
    runs = expand(load_experiment("study", folder), "laptop", SCHEMAS)
    for run in runs:
        place = store.run_folder(results, run)
        place.mkdir(parents=True)
        final = {"x": 0.1 + 0.2}
        identity = store.description_of(run)
        store.write_record(place, {**identity, "status": "completed", "final": final})
    table = collection.collect(results, "study", "laptop", runs)
    collection.write_table(collection.table_path(results, "study", "laptop"), table)
    return [store.run_folder(results, run) / store.RECORD for run in runs]


def test_a_record_edited_by_hand_is_found_when_claims_are_judged(write: Write, results: Path) -> None:
    folder = write()
    first, *_ = store_runs(folder, results)
    assert judged(folder, results).report()["estimate"] == pytest.approx(0.3)
    original = first.read_text()
    first.write_text(original.replace('"alpha": 0.2', '"alpha": 0.3'))
    with pytest.raises(InputError, match=r"run\.json: its config has identity .* it was edited or moved"):
        judged(folder, results)
    first.write_text(original.replace('"x": 0.3', '"x": 0.4'))
    with pytest.raises(InputError, match=r"runs\.csv: run .* is not what its run\.json says: run `nfrepro collect`"):
        judged(folder, results)


def test_a_table_edited_by_hand_is_found_too(write: Write, results: Path) -> None:
    folder = write()
    store_runs(folder, results)
    table = results / "study" / "laptop" / "runs.csv"
    table.write_text(table.read_text().replace("0.30000000000000004", "0.2", 1))
    with pytest.raises(InputError, match=r"is not what its run\.json says"):
        judged(folder, results)


def test_largest_and_smallest_are_those_of_the_runs() -> None:
    rows = pd.DataFrame({"name": ["nf", "nf", "bn", "bn"], "batch": [4, 1024, 8, 512], "seed": 0})
    assert select(rows, {"batch": ("largest",), "name": ("bn",)}, {}).index.tolist() == [3]
    assert select(rows, {"batch": ("smallest",)}, {}).index.tolist() == [0]
    assert select(rows, {"lr": ("smallest",)}, {}).empty


DIVERGING = COMPARED.replace("column: x", "column: top1").replace("rule: {high: 1}", "rule: {low: -1}")


def judged_with(write: Write, results: Path, values: Callable[[float, int], float | None], text: str) -> ClaimVerdict:
    """Eight seeds of `study`, each with this top-1; None: it diverged."""
    rows = [
        {"id": f"a{alpha}s{seed}", "in_experiment": True, "seed": seed, "model.alpha": alpha, "data.name": "cifar10"}
        | {"state": "diverged" if values(alpha, seed) is None else "completed", "top1": values(alpha, seed)}
        for alpha in (0.2, 1.0)
        for seed in range(8)
    ]
    (results / "study" / "laptop").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(results / "study" / "laptop" / "runs.csv", index=False)
    return judged(write(text), results)


def test_a_run_that_diverges_does_not_change_the_question(write: Write, results: Path) -> None:
    """It is the difference in top-1, the margin included, with guessing for runs that diverged."""
    text = DIVERGING.replace("rule:", "seeds: independent\n        rule:")
    noise = np.random.default_rng(3).normal(0, 0.3, 8)

    def one_diverged(alpha: float, seed: int) -> float | None:
        return None if (alpha, seed) == (0.2, 5) else 80 + noise[seed]

    found = judged_with(write, results, one_diverged, text)
    arm = [80 + noise[seed] for seed in range(8)]
    other = [10.0 if seed == 5 else value for seed, value in enumerate(arm)]
    assert found.report()["estimate"] == pytest.approx(np.mean(arm) - np.mean(other))
    assert "1 diverged, counted with the top-1 of guessing" in "".join(claim_lines.overview(found))
    theirs = stats.ttest_ind(np.add(arm, 1), other, equal_var=False)
    welch = stats.t.sf(theirs.statistic, max(0.9 * theirs.df, 7))
    assert found.decision.p == pytest.approx(max(welch, permutation_p(arm, other, -1.0)))


def test_two_arms_that_all_diverge_say_nothing(write: Write, results: Path) -> None:
    for seeds in ("paired", "independent"):
        text = DIVERGING.replace("rule: {low: -1}", f"seeds: {seeds}\n        rule: {{above: 0}}")
        found = judged_with(write, results, lambda alpha, seed: None, text)
        assert (found.verdict, found.decision.p, found.exact) == ("inconclusive", 1.0, False)


def test_an_arm_of_divergences_is_compared_as_one(write: Write, results: Path) -> None:
    text = DIVERGING.replace("rule: {low: -1}", "seeds: independent\n        rule: {above: 0}")
    found = judged_with(write, results, lambda alpha, seed: 80 + seed / 10 if alpha == 1 else None, text)
    assert found.verdict == "supported"
    paired = judged_with(
        write, results, lambda a, s: 80 + s / 10 if a == 1 else None, text.replace("independent", "paired")
    )
    assert paired.decision.p == found.decision.p  # a run that diverged has nothing in common with its pair
    assert found.decision.p == pytest.approx(1 / math.comb(16, 8))  # of all divisions of the runs, the clearest


def test_three_divergences_are_too_few_to_tell(write: Write, results: Path) -> None:
    text = DIVERGING.replace("rule: {low: -1}", "where: {seed: [0, 1, 2], model.alpha: 1.0}\n        rule: {above: 0}")
    text = text.replace("        where: {model.alpha: 1.0}\n", "").replace(
        "against: {model.alpha: 0.2}", "against: {seed: [0, 1, 2], model.alpha: 0.2}\n        seeds: independent"
    )
    found = judged_with(write, results, lambda alpha, seed: 80 + seed / 10 if alpha == 1 else None, text)
    assert (found.verdict, found.decision.p) == ("inconclusive", pytest.approx(1 / 20))


# Controls, looks, scales

CONTROLLED = """\
controls:
  trains:
    statement: The network trains.
    testable_if: it trains for longer
    experiment: study
    where: {model.alpha: 1.0}
    quantity: {name: number, column: x}
    rule: {low: 1.5}
""" + CLAIMS.replace("rule: {high: 1}", "rule: {high: 1}\n        requires: [trains]")


def test_a_claim_whose_control_fails_is_not_testable(write: Write, results: Path) -> None:
    write_table(results)
    assert judged(write(CONTROLLED), results).verdict == "supported"
    found = judged(write(CONTROLLED.replace("low: 1.5", "low: 2.5")), results)
    assert (found.verdict, found.words) == ("not testable", "not testable in this regime")
    assert "control: The network trains. (x >= 2.5: 2.01, n = 3)" in "\n".join(claim_lines.overview(found))
    assert found.report()["controls"][0]["holds"] is False
    assert [answer.decision.verdict for answer in found.answers] == ["not testable"]  # whatever its runs say


def test_a_control_without_runs_leaves_the_claim_not_run(write: Write, results: Path) -> None:
    write_table(results, **{"a1.0s1": {"state": "missing", "x": None}})
    found = judged(write(CONTROLLED), results)
    assert found.verdict == "not run"
    assert [answer.decision.verdict for answer in found.answers] == ["not run"]
    assert "Not known: of 3 runs: 1 missing" in "\n".join(claim_lines.overview(found))


def test_a_control_of_another_scale_is_not_asked_for(write: Write, results: Path) -> None:
    write_table(results)
    elsewhere = EXPERIMENT.replace("scales: {laptop: {}}", "scales: {laptop: {}, gpu: {}}")
    folder = write(CONTROLLED.replace("low: 1.5}", "low: 2.5}\n    scales: [gpu]"))
    (folder / "study.yaml").write_text(elsewhere)
    assert judged(folder, results).verdict == "supported"


def write_seeds(results: Path, values: Sequence[float], scale: str = "laptop", seeds: int = 8) -> None:
    """runs.csv of `study` with x for the first seeds of alpha 0.2; those after them are missing."""
    rows = [
        {"id": f"s{seed}", "state": "completed" if seed < len(values) else "missing", "in_experiment": True}
        | {"seed": seed, "model.alpha": 0.2, "x": values[seed] if seed < len(values) else None}
        for seed in range(seeds)
    ]
    (results / "study" / scale).mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(results / "study" / scale / "runs.csv", index=False)


LOOKED_AT = "looks: {laptop: [4, 6, 8]}\n" + CLAIMS


def test_an_arm_enters_a_look_with_its_first_seeds(write: Write, results: Path) -> None:
    """Seven seeds are looked at as six; the level is that of the look."""
    values = [0.9, 0.7, 1.1, 0.8, 0.6, 0.95, 30.0]
    write_seeds(results, values)
    found = judged(write(LOOKED_AT), results)
    p = stats.ttest_1samp(values[:6], 1, alternative="less").pvalue
    assert (found.n, found.decision.p) == (6, pytest.approx(p))
    assert found.decision.level == pytest.approx(0.00812, abs=1e-5)  # spent between 4 and 6 of 8, of 0.025
    assert (found.verdict, found.words) == ("inconclusive", "inconclusive, open")


def test_what_was_decided_at_a_look_stays_whatever_comes(write: Write, results: Path) -> None:
    write_seeds(results, [0.1, 0.11, 0.12, 0.1])
    assert judged(write(LOOKED_AT), results).verdict == "supported"
    write_seeds(results, [0.1, 0.11, 0.12, 0.1, 5, 6, 7, 8])
    found = judged(write(LOOKED_AT), results)
    assert (found.verdict, found.n, found.report()["n"]) == ("supported", 4, 4)


def test_before_the_first_look_a_claim_is_not_run(write: Write, results: Path) -> None:
    write_seeds(results, [0.1, 0.1, 0.2])
    found = judged(write(LOOKED_AT), results)
    assert (found.verdict, found.decision.method) == ("not run", "of 4 runs: 1 missing")


def test_a_claim_is_judged_at_the_best_scale_that_can_test_it(write: Write, results: Path) -> None:
    folder = write(CLAIMS)
    (folder / "study.yaml").write_text(EXPERIMENT.replace("scales: {laptop: {}}", "scales: {laptop: {}, gpu: {}}"))
    claims = load_claims(folder, SCHEMAS)
    write_seeds(results, [0.5, 0.51, 0.52], seeds=3)

    def best() -> tuple[str, str]:
        (found,) = judge_best(claims, results, ["laptop", "gpu"]).best
        return found.scale, found.verdict

    assert best() == ("laptop", "supported")
    write_seeds(results, [1.5, 1.51], "gpu")  # not all of its seeds
    assert best() == ("laptop", "supported")
    write_seeds(results, [1.5, 1.51, 1.52], "gpu", seeds=3)
    assert best() == ("gpu", "contradicted")


def test_the_baseline_holds_for_options_that_a_run_has() -> None:
    rows = pd.DataFrame({"model.name": ["nf", "nf", "bn"], "model.alpha": [0.2, 1.0, None]})
    baseline = {"model.alpha": (0.2,), "model.absent": ("x",)}
    assert select(rows, {}, baseline).index.tolist() == [0, 2]
    assert select(rows, {"model.alpha": (1,)}, baseline).index.tolist() == [1]
    assert select(rows, {"model.alpha": (None,)}, baseline).index.tolist() == [2]


def test_tests_that_do_not_fit_the_table_are_refused_with_their_line(write: Write, results: Path) -> None:
    write_table(results)
    with pytest.raises(InputError, match=r"claims\.yaml:11: quantity: number: no column y in .*runs\.csv"):
        judged(write(CLAIMS.replace("column: x", "column: y")), results)
    with pytest.raises(InputError, match=r"claims\.yaml:11: where: 2 runs of seed 0: say which model\.alpha is meant"):
        judged(write(CLAIMS.replace("baseline:\n  study: {model.alpha: 0.2}\n", "\n\n")), results)


# The file

TESTS = "    tests:"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("experiment: study", "experiment: stduy", "11: experiment: no experiment stduy, did you mean study?"),
        ("name: number", "name: numbr", "12: quantity.name: expected one of .*did you mean number?"),
        ("column: x", "colunm: x", "12: quantity.colunm: unknown key, did you mean quantity.column?"),
        ("column: x}", "column: x, target: 1}", "12: quantity.target: unknown key for quantity number"),
        ("rule: {high: 1}", "rule: {high: 1, low: 2}", "13: rule: low 2 is above high 1"),
        ("rule: {high: 1}", "rule: {}", "13: rule: needs low, above, high or below"),
        ("rule: {high: 1}", "rule: {hihg: 1}", "13: rule.hihg: unknown key"),
        ("rule: {high: 1}", "rule: {high: much}", "13: rule.high: expected a number, found text 'much'"),
        ("rule: {high: 1}", "rule: {high: 1}\n        wher: {}", "14: wher: unknown key, did you mean where?"),
        ("rule: {high: 1}", "rule: {high: 1}\n        where: {model.alhpa: 1}", "14: where.model.alhpa: unknown key"),
        ("rule: {high: 1}", "rule: {high: 1}\n        where: {seed: []}", "14: where.seed: an empty list"),
        ("rule: {high: 1}", "rule: {high: 1}\n        against: {seed: 1}", "12: quantity: number compares no runs"),
        ("name: number,", "name: number_difference,", "12: quantity: number_difference compares runs and needs"),
        ("statement: small", "statment: small", "statment: unknown key, did you mean statement?"),
        ("    paper: null\n", "", "paper: missing required key"),
        ("    tests:", "    tests: []\n    x:", "x: unknown key"),
        ("    tests:", "    untested: why\n    tests:", "11: claims.C01.tests: a claim that is untested has none"),
        ("known_from: authors", "known_from: hearsay", "8: known_from: expected one of"),
        ("rule: {high: 1}", "rule: {low: 1, above: 1}", "13: rule: low and above are two bounds on one side"),
        ("claims:\n", "series: {C: 1}\nclaims:\n", "3: series.C: expected text, found 1"),
        ("  C01:", "  C-1:", "4: claims.C-1: an id is letters and a number, say C01"),
        (TESTS, "    explained: {lptop: {}}\n" + TESTS, "10: explained: no experiment has a scale lptop, did you mean"),
        (
            TESTS,
            "    explained: {laptop: {verdict: supported}}\n" + TESTS,
            "10: verdict: expected one of",
        ),
        (TESTS, "    explained: {laptop: {verdict: not run}}\n" + TESTS, "10: reason: missing required key"),
        (TESTS, "    explained: {laptop: {raeson: x}}\n" + TESTS, "10: raeson: unknown key, did you mean reason?"),
        ("rule: {high: 1}", "rule: {high: 1}\n        each: [model.alhpa]", "14: each: model.alhpa: unknown key"),
        ("rule: {high: 1}", "rule: {high: 1}\n        scales: [lptop]", "14: scales: study has no scale lptop"),
        (
            "rule: {high: 1}",
            "rule: {high: 1}\n        diverged: counts",
            "14: diverged: expected one of",
        ),
        ("rule: {high: 1}", "rule: {high: 1}\n        diverged: chance", "11: diverged: chance is for top1"),
        (
            "rule: {high: 1}",
            "rule: {high: 1}\n        arms: {a: {seed: 1}}",
            "12: quantity: number takes where, not arms",
        ),
        (
            "number, column: x}",
            "contrast, column: x, weights: {a: 1, b: -1}}\n        diverged: left_out",
            "12: quantity: contrast adds up arms and needs arms",
        ),
        (
            "number, column: x}",
            "contrast, column: x, weights: {a: 1, b: -1}}\n        diverged: left_out\n        arms: {a: {}, c: {}}",
            "12: quantity.weights: must name the arms, a, c",
        ),
        ("number, column: x}", "contrast, column: x, weights: {a: 1, b: 1}}", "11: contrast needs diverged: chance or"),
        (
            "number, column: x}",
            "collapsed}\n        diverged: chance",
            "11: collapsed counts diverged runs and takes no",
        ),
        (
            "number, column: x}",
            "collapsed_difference}",
            "11: shares of two arms are compared with above: 0 or below: 0",
        ),
        ("baseline:", "scales: laptop\nbaseline:", "1: scales: expected a list of scales, found text 'laptop'"),
        ("model.alpha: 0.2", "model.alhpa: 0.2", "2: baseline.study.model.alhpa: unknown key"),
        ("  study: {", "  stud: {", "2: baseline.stud: no experiment stud, did you mean study?"),
        ("claims:\n", "claims:\n  C01: {}\n", "5: claims.C01: key given twice, first at .*:4"),
        ("baseline:", "baselines:", "1: baselines: unknown key, did you mean baseline?"),
        ("    tests:", "    fact: why\n    tests:", "11: claims.C01.tests: a claim that is a fact has none"),
        ("    tests:", "    fact: why\n    untested: why\n    tests:", "4: untested and fact exclude each other"),
        ("rule: {high: 1}", "rule: {high: 1}\n        requires: [trains]", "14: requires: no control trains"),
        ("rule: {high: 1}", "rule: {high: 1}\n        sd: 0", "14: sd: "),
        (
            "baseline:",
            "looks: {lptop: [4]}\nbaseline:",
            "1: looks: no experiment has a scale lptop, did you mean laptop?",
        ),
        (
            "baseline:",
            "looks: {laptop: [6, 4]}\nbaseline:",
            "1: looks.laptop: expected numbers of seeds, 2 or more, in",
        ),
        ("baseline:", "looks: {laptop: [1]}\nbaseline:", "1: looks.laptop: expected numbers of seeds, 2 or more, in"),
        ("baseline:", "controls: {c: {statement: s}}\nbaseline:", "1: testable_if: missing required key"),
        (
            "    tests:",
            "    was: {verdict: supported, scale: lptop, why: w}\n    tests:",
            "10: claims.C01.was.scale: no experiment has a scale lptop",
        ),
        ("    tests:", "    was: {verdict: good, scale: laptop, why: w}\n    tests:", "10: verdict: expected one of"),
        ("    tests:", "    holds_if: most\n    tests:", "10: holds_if: expected one of"),
        (
            "baseline:",
            "blocks: {a: [stduy]}\nbaseline:",
            "1: blocks.a: no experiment stduy, did you mean study?",
        ),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(write: Write, old: str, new: str, message: str) -> None:
    assert old in CLAIMS
    with pytest.raises(InputError, match=rf"claims\.yaml:(\d+: )?{message.replace('?', '[?]')}"):
        load_claims(write(CLAIMS.replace(old, new, 1)), SCHEMAS)


def test_a_margin_that_the_seeds_cannot_decide_is_refused(write: Write) -> None:
    text = COMPARED.replace("baseline:", "looks: {laptop: [4, 8]}\nbaseline:").replace("{high: 1}", "{low: -0.5}")
    load_claims(write(text.replace("rule:", "sd: 0.4\n        rule:")), SCHEMAS)
    message = r"claims\.yaml:12: C01: rule >= -0\.5: a margin of 0\.5 cannot be decided with 8 seeds at scale laptop"
    with pytest.raises(InputError, match=message + r" and a standard deviation of 0\.5: 0\.6 can"):
        load_claims(write(text.replace("rule:", "sd: 0.5\n        rule:")), SCHEMAS)


def test_a_look_at_more_seeds_than_there_are_is_refused(write: Write) -> None:
    folder = write("looks: {laptop: [2, 4]}\n" + CLAIMS)
    with pytest.raises(InputError, match=r"C01: its last look at scale laptop is at 4 seeds, and study has 3"):
        check_looks(load_claims(folder, SCHEMAS), folder, "laptop", SCHEMAS)


def test_a_claim_needs_tests(write: Write) -> None:
    with pytest.raises(InputError, match=r"claims\.yaml:4: claims\.C01\.tests: a claim needs a list of tests"):
        load_claims(write(CLAIMS[: CLAIMS.index("    tests:")]), SCHEMAS)


def test_a_claim_may_stand_without_tests(write: Write, results: Path) -> None:
    untested = CLAIMS[: CLAIMS.index("    tests:")] + "    untested: nobody has the data\n"
    found = judged(write(untested), results)
    assert (found.verdict, found.report()["method"], found.report()["n"]) == ("not run", "nobody has the data", 0)
    assert list(claim_lines.overview(found)) == ["C01  not run       small", "     nobody has the data"]


def test_a_selection_without_runs_is_refused_with_its_line(write: Write) -> None:
    folder = write(CLAIMS.replace("experiment: study", "experiment: study\n        where: {model.alpha: 0.3}"))
    with pytest.raises(
        InputError, match=r"claims\.yaml:12: where: no run of study at scale laptop has model.alpha 0.3"
    ):
        check_runs(load_claims(folder, SCHEMAS), folder, "laptop", SCHEMAS)


def test_unknown_claims_are_refused(write: Write) -> None:
    claims = load_claims(write(), SCHEMAS)
    assert select_claims(claims, []) == select_claims(claims, ["C01"]) == claims
    with pytest.raises(InputError, match="claim C02: unknown, did you mean C01"):
        select_claims(claims, ["C02"])


# The verb


OVERVIEW = """\
C01  supported     small
     study: x <= 1: 0.51 [0.4852, 0.5348], n = 3, p = 6.9e-05
1 claim at the best scale of each: 1 supported
"""
DETAILS = """\
C01  supported     small
     source: here; stated by: us; known from: authors
     supported     study: x <= 1: 0.51 [0.4852, 0.5348], n = 3, p = 6.9e-05
1 claim at the best scale of each: 1 supported
"""


def call(folder: Path, results: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "NFREPRO_EXPERIMENTS": str(folder), "NFREPRO_RESULTS": str(results)}
    line = [sys.executable, "-m", "nfrepro", "claims", *arguments]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_the_verb(write: Write, results: Path) -> None:
    folder = write()
    write_table(results)
    before = sorted(results.rglob("*"))
    shown = call(folder, results)
    assert shown.returncode == 0
    assert shown.stdout == OVERVIEW
    assert call(folder, results, "C01").stdout == DETAILS
    assert '"verdict": "supported"' in call(folder, results, "C01", "--json").stdout
    assert sorted(results.rglob("*")) == before
    bad = call(write(CLAIMS.replace("high: 1", "high: x")), results)
    assert (bad.returncode, len(bad.stderr.splitlines())) == (2, 1)
    assert re.search(r"claims\.yaml:13: rule\.high: expected", bad.stderr)
    assert call(write(), results, "--scale", "big").returncode == 2
