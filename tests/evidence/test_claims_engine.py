"""Claims as data: verdicts by closed cases and simulation, quantities on small tables, the file and its errors."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy import stats

from nfrepro.errors import InputError
from nfrepro.evidence.claim_quantities import MeasuredRun, NoValue, Quantity
from nfrepro.evidence.claim_runs import select
from nfrepro.evidence.claim_verdicts import ClaimVerdict, judge
from nfrepro.evidence.claims import load_claims, select_claims
from nfrepro.evidence.statistics import mean_interval
from nfrepro.evidence.verdicts import Bounds, Decision, Sample, combine, decide, evidence, holm, seeds_needed
from nfrepro.specs import expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

ROOT = Path(__file__).parents[2]
BOUNDS = st.tuples(st.floats(-5, 5), st.floats(0, 5)).map(lambda pair: Bounds(pair[0], pair[0] + pair[1]))
VALUES = st.lists(st.floats(-10, 10), min_size=2, max_size=8)


def decide_one(values: tuple[float, ...], bounds: Bounds) -> Decision:
    return decide([Sample(bounds, values)])[0]


# Verdicts


def test_a_single_test_is_decided_by_the_95_percent_interval() -> None:
    interval = mean_interval([1.0, 2.0, 3.0])  # 2 ± 2.484
    for shift, verdict in ((1e-6, "supported"), (-1e-6, "inconclusive")):
        assert decide_one((1.0, 2.0, 3.0), Bounds(high=interval.high + shift)).verdict == verdict
        assert decide_one((1.0, 2.0, 3.0), Bounds(low=interval.low - shift)).verdict == verdict
    assert decide_one((1.0, 2.0, 3.0), Bounds(high=interval.low - 1e-6)).verdict == "contradicted"
    assert decide_one((1.0, 2.0, 3.0), Bounds(high=interval.low + 1e-6)).verdict == "inconclusive"


@settings(deadline=None)
@given(VALUES, BOUNDS)
def test_verdicts_agree_with_the_interval(values: list[float], bounds: Bounds) -> None:
    decision = decide_one(tuple(values), bounds)
    interval = decision.interval
    assert interval is not None
    if decision.verdict == "supported":
        assert bounds.low - 1e-9 <= interval.low <= interval.high <= bounds.high + 1e-9
        assert bounds.low - 1e-9 <= interval.mean <= bounds.high + 1e-9  # the mean of equal numbers is rounded
    elif decision.verdict == "contradicted":
        assert interval.high <= bounds.low + 1e-9 or interval.low >= bounds.high - 1e-9


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(VALUES, BOUNDS), min_size=1, max_size=6))
def test_more_tests_decide_nothing_that_one_alone_leaves_open(tests: list[tuple[list[float], Bounds]]) -> None:
    family = [Sample(bounds, tuple(values)) for values, bounds in tests]
    for sample, together in zip(family, decide(family), strict=True):
        alone = decide([sample])[0]
        assert together.verdict in (alone.verdict, "inconclusive")


@settings(deadline=None)
@given(VALUES, BOUNDS)
def test_no_evidence_is_both_for_and_against(values: list[float], bounds: Bounds) -> None:
    outside, inside = evidence(Sample(bounds, tuple(values)))
    assert 0 <= outside <= 1
    assert 0 <= inside <= 1
    assert outside + inside >= 1 - 1e-9


def test_values_without_spread_are_decided_by_value_bounds_included() -> None:
    inside, outside = decide_one((0.0, 0.0), Bounds(0.0, 0.0)), decide_one((1e-9, 1e-9), Bounds(0.0, 0.0))
    assert (inside.verdict, outside.verdict) == ("supported", "contradicted")
    assert inside.method.startswith("exact")
    assert inside.p is None


def test_holm_by_hand() -> None:
    # 0.05 / 4 = 0.0125, then 0.0167, then 0.025 fails, and with it all that follow (Holm 1979).
    steps = holm([0.03, 0.01, 0.04, 0.015], 0.05)
    assert [step.rejected for step in steps] == [False, True, False, True]
    assert [step.level for step in steps] == pytest.approx([0.025, 0.0125, 0.025, 0.05 / 3])
    assert holm([], 0.05) == []


def test_runs_that_are_missing_loosen_no_verdict() -> None:
    sample = Sample(Bounds(high=1.0), (0.7, 0.8, 0.75))
    alone, beside = decide([sample])[0], decide([sample, Sample(Bounds(high=1.0), reason="missing")])[0]
    assert alone.level == pytest.approx(0.025)
    assert beside.level == pytest.approx(0.0125)


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        (["supported", "supported"], "supported"),
        (["supported", "not run"], "not run"),
        (["not run", "inconclusive"], "inconclusive"),
        (["inconclusive", "contradicted", "not run"], "contradicted"),
    ],
)
def test_a_claim_holds_only_if_all_its_tests_do(verdicts: list[Any], verdict: str) -> None:
    assert combine(verdicts) == verdict


def rates(mean: float, bounds: Bounds, n: int, count: int = 2000) -> dict[str, float]:
    samples = np.random.default_rng(7).normal(mean, 1.0, size=(count, n))
    found = [decide_one(tuple(sample), bounds).verdict for sample in samples]
    return {verdict: found.count(verdict) / count for verdict in ("supported", "contradicted")}


@pytest.mark.parametrize(("bounds", "n"), [(Bounds(high=0.0), 3), (Bounds(low=0.0), 5), (Bounds(0.0, 8.0), 5)])
def test_on_the_boundary_neither_verdict_comes_more_often_than_in_one_case_of_40(bounds: Bounds, n: int) -> None:
    found = rates(0.0, bounds, n)
    # 0.025 and three standard errors of 2,000 simulations.
    assert found["supported"] <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 2000)
    assert found["contradicted"] <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 2000)
    assert found["supported"] >= 0.015  # and the test is not more cautious than it says


def test_a_narrow_rule_is_left_by_chance_on_either_side_but_not_more_often() -> None:
    assert rates(0.0, Bounds(-0.01, 0.01), 3)["contradicted"] <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 2000)


def test_a_whole_family_on_the_boundary_is_wrong_in_5_percent_of_cases_at_most() -> None:
    generator, wrong, count = np.random.default_rng(11), 0, 1000
    for _ in range(count):
        common = generator.normal(0.0, 1.0, size=5)  # the same runs: tests depend on one another
        family = [
            Sample(Bounds(high=0.0), tuple(0.7 * common + 0.7 * generator.normal(0.0, 1.0, size=5))) for _ in range(6)
        ]
        wrong += any(decision.verdict != "inconclusive" for decision in decide(family))
    assert wrong / count <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / count)


def test_the_seeds_that_are_asked_for_settle_it_four_times_in_five() -> None:
    values = (0.0, 1.0, 2.0)  # mean 1, standard deviation 1
    n = seeds_needed(values, Bounds(high=1.5), 0.025)
    assert n is not None
    noncentral = stats.nct.cdf(stats.t.ppf(0.025, n - 1), n - 1, -0.5 * math.sqrt(n))
    assert noncentral == pytest.approx(0.8, abs=0.02)
    assert seeds_needed(values, Bounds(high=1.0), 0.025) is None


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
        ({"name": "share_below", "statistic": "res_var", "bound": 0.95}, 0.5),
        ({"name": "ledger_deviation"}, 1 / 6),  # 2, 3, 2, 3 against 2, 3, 2.2, 2.5
        ({"name": "transition_ratio", "statistic": "avg_var"}, 2.2 / 3),
        ({"name": "growth", "statistic": "avg_sq_mean"}, 2.0),
        ({"name": "curve_distance", "statistic": "avg_var"}, 1.0),
        ({"name": "number_difference", "column": "a"}, -1.0),
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
    assert next(iter(found.lines())).startswith("C01  supported")


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
    assert reason in found.decisive.decision.method


def test_pairs_are_made_by_seed(write: Write, results: Path) -> None:
    write_table(results)
    compared = "where: {model.alpha: 1.0}\n        against: {model.alpha: 0.2}\n        quantity"
    claims = CLAIMS.replace("        quantity: {name: number,", f"        {compared}: {{name: number_difference,")
    found = judged(write(claims), results)
    # Each seed adds as much to both runs, so that the difference is exact.
    assert found.decisive.decision.interval is not None
    assert (found.verdict, found.decisive.decision.interval.mean) == ("contradicted", pytest.approx(1.5))
    assert found.decisive.evidence.states == {"completed": 6}


def test_unfinished_runs_are_said_and_diverged_ones_counted(write: Write, results: Path) -> None:
    folder = write()
    assert "no table" in judged(folder, results).decisive.decision.method
    write_table(results, **{"a0.2s0": {"state": "failed", "x": None}, "a0.2s1": {"state": "missing", "x": None}})
    found = judged(folder, results)
    assert (found.verdict, found.decisive.decision.method) == ("not run", "of 3 runs: 1 failed, 1 missing")
    write_table(results, **{"a0.2s0": {"state": "diverged", "x": None}})
    found = judged(folder, results)
    assert found.report()["n"] == 2
    assert "1 diverged and not counted in n" in "\n".join(found.lines())
    write_table(results, **{"a0.2s0": {"x": None}})
    assert "no finite x" in judged(folder, results).decisive.decision.method


def test_the_baseline_holds_for_options_that_a_run_has() -> None:
    rows = pd.DataFrame({"model.name": ["nf", "nf", "bn"], "model.alpha": [0.2, 1.0, None]})
    baseline = {"model.alpha": (0.2,), "model.absent": ("x",)}
    assert select(rows, {}, baseline).index.tolist() == [0, 2]
    assert select(rows, {"model.alpha": (1,)}, baseline).index.tolist() == [1]
    assert select(rows, {"model.alpha": (None,)}, baseline).index.tolist() == [2]


def test_tests_that_do_not_fit_the_table_are_refused_with_their_line(write: Write, results: Path) -> None:
    write_table(results)
    with pytest.raises(InputError, match=r"claims\.yaml:10: quantity: number: no column y in .*runs\.csv"):
        judged(write(CLAIMS.replace("column: x", "column: y")), results)
    with pytest.raises(InputError, match=r"claims\.yaml:10: where: 2 runs of seed 0: say which model\.alpha is meant"):
        judged(write(CLAIMS.replace("baseline:\n  study: {model.alpha: 0.2}\n", "\n\n")), results)


# The file


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("experiment: study", "experiment: stduy", "10: experiment: no experiment stduy, did you mean study?"),
        ("name: number", "name: numbr", "11: quantity.name: expected one of .*did you mean number?"),
        ("column: x", "colunm: x", "11: quantity.colunm: unknown key, did you mean quantity.column?"),
        ("column: x}", "column: x, bound: 1}", "11: quantity.bound: unknown key for quantity number"),
        ("rule: {high: 1}", "rule: {high: 1, low: 2}", "12: rule: low 2 is above high 1"),
        ("rule: {high: 1}", "rule: {}", "12: rule: needs low, high or both"),
        ("rule: {high: 1}", "rule: {hihg: 1}", "12: rule.hihg: unknown key"),
        ("rule: {high: 1}", "rule: {high: much}", "12: rule.high: expected a number, found text 'much'"),
        ("rule: {high: 1}", "rule: {high: 1}\n        wher: {}", "13: wher: unknown key, did you mean where?"),
        ("rule: {high: 1}", "rule: {high: 1}\n        where: {model.alhpa: 1}", "13: where.model.alhpa: unknown key"),
        ("rule: {high: 1}", "rule: {high: 1}\n        where: {seed: []}", "13: where.seed: an empty list"),
        ("rule: {high: 1}", "rule: {high: 1}\n        against: {seed: 1}", "11: quantity: number compares no runs"),
        ("name: number,", "name: number_difference,", "11: quantity: number_difference compares runs and needs"),
        ("statement: small", "statment: small", "statment: unknown key, did you mean statement?"),
        ("    paper: null\n", "", "paper: missing required key"),
        ("    tests:", "    tests: []\n    x:", "x: unknown key"),
        ("model.alpha: 0.2", "model.alhpa: 0.2", "2: baseline.study.model.alhpa: unknown key"),
        ("  study: {", "  stud: {", "2: baseline.stud: no experiment stud, did you mean study?"),
        ("claims:\n", "claims:\n  C01: {}\n", "5: claims.C01: key given twice, first at .*:4"),
        ("baseline:", "baselines:", "1: baselines: unknown key, did you mean baseline?"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(write: Write, old: str, new: str, message: str) -> None:
    assert old in CLAIMS
    with pytest.raises(InputError, match=rf"claims\.yaml:(\d+: )?{message.replace('?', '[?]')}"):
        load_claims(write(CLAIMS.replace(old, new, 1)), SCHEMAS)


def test_a_claim_needs_tests(write: Write) -> None:
    with pytest.raises(InputError, match=r"claims\.yaml:4: claims\.C01\.tests: a claim needs a list of tests"):
        load_claims(write(CLAIMS[: CLAIMS.index("    tests:")]), SCHEMAS)


def test_unknown_claims_are_refused(write: Write) -> None:
    claims = load_claims(write(), SCHEMAS)
    assert select_claims(claims, []) == select_claims(claims, ["C01"]) == claims
    with pytest.raises(InputError, match="claim C02: unknown, did you mean C01"):
        select_claims(claims, ["C02"])


# The claims of the paper

STATED = load_claims(ROOT / "experiments", SCHEMAS)


def test_the_claims_on_signal_propagation_are_all_there() -> None:
    ids = {claim.id for claim in STATED}
    assert ids >= {f"C{number:02}" for number in (*range(1, 22), 41, 42, 46, 47)}


@pytest.mark.parametrize("claim", STATED, ids=lambda claim: claim.id)
def test_every_test_means_runs_of_its_experiment(claim: Any) -> None:
    """At scale laptop: some runs for every seed, one only where they are not put together by `across`."""
    for test in claim.tests:
        experiment = load_experiment(test.form.experiment, ROOT / "experiments")
        assert claim.id in experiment.claims, f"{experiment.path} does not list {claim.id}"
        configs = [run.config for run in expand(experiment, "laptop", SCHEMAS)]
        rows = pd.json_normalize(configs).astype(object)
        for where, several in ((test.where, test.form.across is not None), (test.against, False)):
            if where is not None:
                counts = select(rows, where, test.baseline).groupby("seed").size()
                assert len(counts) == rows["seed"].nunique(), f"{test.origin}: {dict(counts)}"
                assert several or (counts == 1).all(), f"{test.origin}: {dict(counts)}"


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
    assert "C01  supported     small" in shown.stdout
    assert "1 claim at scale laptop: 1 supported" in shown.stdout
    assert '"verdict": "supported"' in call(folder, results, "C01", "--json").stdout
    assert sorted(results.rglob("*")) == before
    bad = call(write(CLAIMS.replace("high: 1", "high: x")), results)
    assert (bad.returncode, len(bad.stderr.splitlines())) == (2, 1)
    assert re.search(r"claims\.yaml:12: rule\.high: expected", bad.stderr)
    assert call(write(), results, "--scale", "big").returncode == 2
