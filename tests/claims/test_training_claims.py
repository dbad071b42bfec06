"""All claims of the paper: they are there, they mean runs that exist, and made-up runs decide them as they should."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nfrepro.claims import lines as claim_lines
from nfrepro.claims.checks import check_runs
from nfrepro.claims.claim import Claim
from nfrepro.claims.file import load_claims
from nfrepro.claims.judge import Answer, ClaimVerdict, judge
from nfrepro.claims.runs import select
from nfrepro.claims.values import CLASSES
from nfrepro.runs.table import flatten
from nfrepro.specs import expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SCALES = ("laptop", "gpu", "paper")
UNTESTED = {"C38", "C39", "C40"}

Row = dict[str, Any]
World = Callable[[Row], float | None]  # top-1 of a run; None: it diverged


@cache
def stated() -> dict[str, Claim]:
    return {claim.id: claim for claim in load_claims(EXPERIMENTS, SCHEMAS)}


@cache
def configs(experiment: str, scale: str) -> list[tuple[str, Row]]:
    runs = expand(load_experiment(experiment, EXPERIMENTS), scale, SCHEMAS)
    return [(run.id, flatten(run.config)) for run in runs]


def write_runs(results: Path, experiment: str, scale: str, top1: World) -> None:
    """runs.csv of the experiment as if its runs had ended so, with noise of 0.05 points."""
    rows = []
    for number, (name, config) in enumerate(configs(experiment, scale)):
        value = top1(config)
        noisy = None if value is None else value + np.random.default_rng(number).normal(0.0, 0.05)
        state = "diverged" if value is None else "completed"
        rows.append({"id": name, "state": state, "in_experiment": True, **config, "top1": noisy})
    folder = results / experiment / scale
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / "runs.csv", index=False)


def judged(results: Path, name: str, scale: str, top1: World) -> ClaimVerdict:
    """The claim among all that are about the same experiments' runs."""
    experiments = {test.form.experiment for test in stated()[name].tests}
    trained = {found for found in experiments if load_experiment(found, EXPERIMENTS).task == "train"}
    for experiment in trained:
        write_runs(results, experiment, scale, top1)
    family = [claim for claim in stated().values() if any(test.form.experiment in trained for test in claim.tests)]
    return next(found for found in judge(family, results, scale) if found.claim.id == name)


# What is stated


def test_every_claim_stands_with_tests_or_with_the_reason_for_none() -> None:
    of_the_paper = [name for name in stated() if name.startswith("C")]
    assert of_the_paper == [f"C{number:02}" for number in range(1, 48)]
    for name, claim in stated().items():
        assert bool(claim.tests) != (name in UNTESTED), name
        assert bool(claim.form.untested) == (name in UNTESTED), name


@pytest.mark.parametrize("scale", SCALES)
def test_every_test_means_runs_of_its_experiment(scale: str) -> None:
    """One run a seed, the same seeds in all arms, unless runs are put together by `across` or taken apart by `each`."""
    check_runs(list(stated().values()), EXPERIMENTS, scale, SCHEMAS)
    for claim in stated().values():
        for test in claim.tests:
            experiment = load_experiment(test.form.experiment, EXPERIMENTS)
            assert claim.id in experiment.claims, f"{experiment.path} does not list {claim.id}"
            if not test.applies_at(scale) or scale not in experiment.scales:
                continue
            rows = pd.DataFrame([row for _, row in configs(experiment.name, scale)], dtype=object)
            quantity = test.form.quantity
            tells_apart = {"best_difference": "by", "decay": "along"}.get(quantity.name)
            by = [*test.form.each, *([getattr(quantity, tells_apart)] if tells_apart else [])]
            for name, selection in test.selections.items():
                counts = select(rows, selection.where, test.baseline).groupby(["seed", *by]).size()
                assert counts.index.get_level_values("seed").nunique() == rows["seed"].nunique(), f"{test.origin}"
                assert test.form.across or (counts == 1).all(), f"{test.origin}: {name}: {dict(counts)}"


def test_no_bound_applies_at_scale_smoke() -> None:
    assert not any(test.applies_at("smoke") for claim in stated().values() for test in claim.tests)


# Worlds in which a claim is true; in their mirror images it is false


def nf(row: Row) -> bool:
    return str(row["model.name"]).startswith("nf_")


WORLDS: dict[str, World] = {
    "C22": lambda row: 90 if nf(row) else 70,
    "C23": lambda row: 90 if nf(row) else 70,
    "C24": lambda row: 90 if nf(row) and row["model.stochastic_depth"] > 0 else 70,
    "C27": lambda row: 90 if nf(row) else 70,
    "C28": lambda row: 90 if nf(row) or row["train.batch_size"] > 4 else 70,
    "C29": lambda row: 70 if nf(row) and row["train.clip_factor"] is None and row["train.batch_size"] > 1000 else 90,
    "C31": lambda row: 70 if nf(row) and row["model.group_width"] == 1 else 73.2,
    "C32": lambda row: 60 if nf(row) and row["model.group_width"] == 1 else 80,
    "C33": lambda row: 70 if row["data.mixing"] == "none" else 90,
    "C34": lambda row: 60 if row["data.randaugment_layers"] and row["train.clip_factor"] is None else 80,
    "C35": lambda row: 60 if row["model.alpha"] == 1 else 80,
    "C36": lambda row: 90 if row["model.skipinit_gain"] == 0 else 70,
    "C37": lambda row: 70 if row["train.decay_norm_and_bias"] else 90,
    "C43": lambda row: 90 if row.get("model.order") == "bn_relu_conv" else 70,
    "C44": lambda row: row["model.depth"] / 2,
    "C45": lambda row: 90 - (row["model.depth"] if row["model.convolution"] == "he" else 0),
}


def mirrored(world: World) -> World:
    return lambda row: 150 - float(world(row) or 0)


@pytest.mark.parametrize("scale", ["laptop", "paper"])
@pytest.mark.parametrize("name", WORLDS)
def test_a_clear_effect_decides_a_claim_either_way(results: Path, name: str, scale: str) -> None:
    truly = judged(results, name, scale, WORLDS[name])
    seeds = {config["seed"] for test in truly.claim.tests for _, config in configs(test.form.experiment, scale)}
    if len(seeds) == 1 or (name == "C33" and scale == "paper"):
        assert "1 completed seed: an interval needs 2" in "".join(claim_lines.details(truly))
        return
    assert truly.verdict == "supported", "\n".join(claim_lines.details(truly))
    assert judged(results, name, scale, mirrored(WORLDS[name])).verdict == "contradicted"


@pytest.mark.parametrize("name", sorted(WORLDS.keys() - {"C23", "C31", "C36", "C43"}))
def test_without_an_effect_no_claim_is_supported(results: Path, name: str) -> None:
    assert judged(results, name, "laptop", lambda row: 80).verdict in ("inconclusive", "contradicted")


def test_silu_has_to_be_as_accurate_as_relu_to_half_a_point(results: Path) -> None:
    def training(silu: float) -> str:
        world = judged(results, "C47", "laptop", lambda row: silu if row["model.activation"] == "silu" else 80)
        return next(a.decision.verdict for a in world.answers if a.test.form.experiment == "activations")

    assert [training(silu) for silu in (83.0, 79.5, 76.0)] == ["supported", "inconclusive", "contradicted"]


# Collapse and divergence


def lr(row: Row, world: dict[str, Any]) -> float | None:
    rates = sorted({config["train.lr_per_256"] for _, config in configs("deep_stability", "laptop")})
    found: float | None = world.get(
        {rates[0]: "low", rates[-1]: "high"}.get(row["train.lr_per_256"], ""), lambda seed: 80
    )(row["seed"])
    return found


@pytest.mark.parametrize(
    ("high", "low", "verdict"),
    [
        (lambda seed: None, lambda seed: 80, "supported"),
        (lambda seed: 11, lambda seed: 80, "supported"),  # not diverged, but no better than guessing
        (lambda seed: None if seed < 2 else 80, lambda seed: 80, "inconclusive"),  # as in the paper: too few to tell
        (lambda seed: 80, lambda seed: 80, "inconclusive"),
        (lambda seed: 80, lambda seed: None, "contradicted"),
    ],
)
def test_collapse_is_decided_on_counts(
    results: Path, high: Callable[[int], float], low: Callable[[int], float], verdict: str
) -> None:
    found = judged(results, "C26", "laptop", lambda row: lr(row, {"high": high, "low": low}))
    assert found.verdict == verdict
    difference = found.answers[1]
    high_count, low_count = (sum(arm.values.values()) for arm in difference.evidence.arms)
    assert difference.evidence.remark == f"{high_count:g} of 5 against {low_count:g} of 5 runs"
    assert difference.decision.interval is not None
    assert difference.decision.interval.mean == pytest.approx((high_count - low_count) / 5)


def test_diverged_runs_count_with_the_top_1_of_guessing_where_that_is_failure(results: Path) -> None:
    found = judged(results, "C22", "laptop", lambda row: None if "fixup" in row["model.name"] else 60 + 20 * nf(row))
    assert found.verdict == "supported"
    answer = found.answers[0]
    assert answer.evidence.states == {"completed": 3, "diverged": 3}
    assert answer.evidence.remark == "3 diverged, counted with the top-1 of guessing"
    assert answer.report()["arms"][1]["mean"] == pytest.approx(10.0)  # of 10 classes


def test_both_arms_diverged_support_nothing(results: Path) -> None:
    assert judged(results, "C34", "laptop", lambda row: None).verdict == "contradicted"


def answers_of(found: ClaimVerdict) -> list[Answer]:
    return [answer for answer in found.answers if answer.applies]


def test_where_means_are_asked_for_diverged_runs_are_decided_on_counts(results: Path) -> None:
    found = judged(results, "C23", "laptop", lambda row: 80 if nf(row) else None)
    for answer in answers_of(found):
        assert answer.decision.verdict == "inconclusive"  # 3 against 3 runs, among so many tests
        assert answer.evidence.remark.startswith("decided on the counts of diverged runs, 0 of 3 against 3 of 3")
        assert answer.decision.interval is not None
        assert answer.decision.interval.mean == -1.0
    worse = judged(results, "C23", "laptop", lambda row: None if nf(row) else 80)
    assert worse.verdict == "inconclusive"


def test_the_number_of_classes_is_that_of_the_data() -> None:
    from nfrepro.data import cifar10, fashion_mnist

    assert {"fashion_mnist": len(fashion_mnist.CLASSES), "cifar10": len(cifar10.CLASSES)} == CLASSES


# Scales


def test_a_bound_of_the_paper_s_scale_has_no_part_elsewhere(results: Path) -> None:
    at_laptop = judged(results, "C25", "laptop", lambda row: 79.5)
    assert (at_laptop.verdict, at_laptop.decision.method) == ("not run", "for scale paper only")
    assert judged(results, "C25", "paper", lambda row: 79.5).verdict == "supported"
    assert judged(results, "C25", "paper", lambda row: 75.0).verdict == "contradicted"
    gap = judged(results, "C27", "paper", lambda row: 75 if nf(row) else 70)
    assert gap.verdict == "contradicted"  # 5 points are fewer than 10 …
    assert judged(results, "C27", "laptop", lambda row: 75 if nf(row) else 70).verdict == "supported"  # … but more


def test_a_test_for_each_depth(results: Path) -> None:
    depths = {config["model.depth"] for _, config in configs("depth", "laptop")}
    found = judged(results, "C23", "laptop", lambda row: 90 if nf(row) else 70)
    assert [answer.report()["selections"]["where"]["model.depth"] for answer in answers_of(found)] == sorted(depths)
    shallow = judged(results, "C23", "laptop", lambda row: 90 if nf(row) == (row["model.depth"] == min(depths)) else 70)
    assert [answer.decision.verdict for answer in answers_of(shallow)] == ["supported", "contradicted"]
    assert shallow.verdict == "contradicted"


def test_claims_that_nothing_here_can_test_say_so(results: Path) -> None:
    for found in judge(list(stated().values()), results, "paper"):
        assert found.verdict == "not run"
        assert found.decision.method
        if found.claim.id in UNTESTED:
            assert (found.report()["tests"], found.decisive) == ([], None)
