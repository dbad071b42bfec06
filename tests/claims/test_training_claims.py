"""All claims of the paper: they are there, they mean runs that exist, and made-up runs decide them as they should."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nfrepro.claims import lines as claim_lines
from nfrepro.claims.checks import check_looks, check_runs
from nfrepro.claims.claim import Claim
from nfrepro.claims.evidence import CLASSES
from nfrepro.claims.file import load_claims
from nfrepro.claims.judge import Answer, ClaimVerdict, judge
from nfrepro.claims.runs import select
from nfrepro.runs.table import flatten
from nfrepro.specs import expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SCALES = ("laptop", "overnight", "gpu", "paper")
UNTESTED = {"C38", "C39", "C40"}
FACTS = {"C43"}

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
    """runs.csv of the experiment as if its runs had ended so, with noise of 0.05 points, in a regime that can tell."""
    rows = []
    for number, (name, config) in enumerate(configs(experiment, scale)):
        value = top1(config)
        noisy = None if value is None else value + np.random.default_rng(number).normal(0.0, 0.05)
        state = "diverged" if value is None else "completed"
        numbers = {"top1": noisy, "final_train_top1": None if noisy is None else noisy + 15, "skipinit_gain": 0.9}
        rows.append({"id": name, "state": state, "in_experiment": True, **config, **numbers})
    folder = results / experiment / scale
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / "runs.csv", index=False)


def judged(results: Path, name: str, scale: str, top1: World) -> ClaimVerdict:
    """The claim in a list with all that are about the same experiments' runs."""
    claim = stated()[name]
    tests = [*claim.tests_at(scale), *(control.test for control in claim.controls_at(scale))]
    found = {test.form.experiment for test in tests or claim.tests}
    trained = {name for name in found if load_experiment(name, EXPERIMENTS).task == "train"}
    for experiment in trained:
        write_runs(results, experiment, scale, top1)
    family = [claim for claim in stated().values() if any(test.form.experiment in trained for test in claim.tests)]
    return next(found for found in judge(family, results, scale) if found.claim.id == name)


# What is stated


def test_every_claim_stands_with_tests_or_with_the_reason_for_none() -> None:
    of_the_paper = [name for name in stated() if name.startswith("C")]
    assert of_the_paper == [f"C{number:02}" for number in range(1, 49)]
    for name, claim in stated().items():
        assert bool(claim.tests) != (name in UNTESTED | FACTS), name
        assert bool(claim.form.untested) == (name in UNTESTED), name
        assert bool(claim.form.fact) == (name in FACTS), name


@pytest.mark.parametrize("scale", SCALES)
def test_every_test_means_runs_of_its_experiment(scale: str) -> None:
    """One run a seed, the same seeds in all arms, unless runs are put together by `across` or taken apart by `each`."""
    check_runs(list(stated().values()), EXPERIMENTS, scale, SCHEMAS)
    check_looks(list(stated().values()), EXPERIMENTS, scale, SCHEMAS)
    for claim in stated().values():
        for test in [*claim.tests_at(scale), *(control.test for control in claim.controls_at(scale))]:
            experiment = load_experiment(test.form.experiment, EXPERIMENTS)
            assert test not in claim.tests or claim.id in experiment.claims, f"{experiment.path} lacks {claim.id}"
            if scale not in experiment.scales:
                continue
            rows = pd.DataFrame([row for _, row in configs(experiment.name, scale)], dtype=object)
            quantity = test.form.quantity
            tells_apart = "along" if quantity.name == "decay" else None
            by = [*test.form.each, *([getattr(quantity, tells_apart)] if tells_apart else [])]
            seeds = set()
            for name, selection in test.selections.items():
                counts = select(rows, selection.where, test.baseline).groupby(["seed", *by]).size()
                seeds.add(tuple(counts.index.get_level_values("seed").unique()))
                assert test.form.across or (counts == 1).all(), f"{test.origin}: {name}: {dict(counts)}"
            assert len(seeds) == 1, f"{test.origin}: arms have different seeds"


def test_fresh_seeds_are_those_that_no_rule_has_seen() -> None:
    """Claims that were re-ruled are judged on seeds from 10 up at scale overnight; the pilot's enter no test."""
    names = {test.form.experiment for claim in stated().values() for test in claim.tests_at("overnight")}
    assert "pilot" not in names
    seeds = {row["seed"] for name in names for _, row in configs(name, "overnight")}
    assert min(seeds) == 10
    assert max(seeds) < 900


def test_a_claim_that_was_re_ruled_names_the_verdict_before() -> None:
    re_ruled = {name for name, claim in stated().items() if claim.was is not None}
    of_the_paper = (1, 3, 5, 6, 8, 9, 10, 15, *range(22, 25), *range(26, 30), *range(31, 38), *range(43, 48))
    of_others = (1, 2, 4, 6, 11, 13, 14, 15, 22, 23, 25, *range(32, 37))
    assert re_ruled == {f"C{n:02}" for n in of_the_paper} | {f"W{n:02}" for n in of_others}


def test_no_bound_applies_at_scale_smoke() -> None:
    assert not any(test.applies_at("smoke") for claim in stated().values() for test in claim.tests)


# Worlds in which a claim is true; in their mirror images it is false


def nf(row: Row) -> bool:
    return str(row["model.name"]).startswith("nf_")


def bn_at(row: Row, large: float, small: float) -> float:
    """BatchNorm at batch 64, or 256 or more, and at batch 4."""
    return large if row["train.batch_size"] > 4 else small


def overfits(row: Row, value: float) -> float:
    """BatchNorm gains by MixUp, as its control asks."""
    return value + 5 if row["data.mixing"] == "mixup" and not nf(row) else value


def clipped(row: Row) -> bool:
    return row["train.clip_factor"] is not None


# A world in which a claim is true, and one in which it is false.
WORLDS: dict[str, tuple[World, World]] = {
    "C22": (lambda row: 90 if nf(row) else 70, lambda row: 65 if nf(row) else 80),
    "C23": (lambda row: 90 if nf(row) else 70, lambda row: 65 if nf(row) else 80),
    "C24": (
        lambda row: overfits(row, 90 if nf(row) and row["model.stochastic_depth"] > 0 else 70),
        lambda row: overfits(row, 60 if nf(row) and row["model.stochastic_depth"] > 0 else 70),
    ),
    "C26": (
        lambda row: None if row["train.lr_per_256"] > 6 or row["model.name"] != "nf_resnet" else 80,
        lambda row: 80,
    ),
    "C27": (
        lambda row: 90 if nf(row) else bn_at(row, 90, 70),
        lambda row: 60 if nf(row) else bn_at(row, 90, 70),
    ),
    "C28": (
        lambda row: 90 if nf(row) else bn_at(row, 90, 70),
        lambda row: bn_at(row, 90, 50) if nf(row) else bn_at(row, 90, 70),
    ),
    "C29": (
        lambda row: 70 if nf(row) and not clipped(row) and row["train.batch_size"] > 1000 else 90,
        lambda row: 90,
    ),
    "C31": (lambda row: 70 if nf(row) and row["model.group_width"] == 1 else 73.2, lambda row: 75 if nf(row) else 70),
    "C32": (
        lambda row: 60 if nf(row) and row["model.group_width"] == 1 else 80,
        lambda row: 60 if nf(row) and row["model.group_width"] != 1 else 80,
    ),
    "C33": (
        lambda row: overfits(row, 90 if nf(row) and row["data.mixing"] != "none" else 70),
        lambda row: overfits(row, 60 if nf(row) and row["data.mixing"] != "none" else 70),
    ),
    "C34": (
        lambda row: overfits(row, 60 if row["data.randaugment_layers"] and not clipped(row) else 80),
        lambda row: overfits(row, 60 if row["data.randaugment_layers"] and clipped(row) else 80),
    ),
    "C35": (
        lambda row: (None if row["train.lr_per_256"] > 1 else 78) if row.get("model.alpha") == 1 else 80,
        lambda row: 85 if row.get("model.alpha") in (0.05, 1.0) else 80,
    ),
    "C36": (
        lambda row: 90 if row.get("model.skipinit_gain") == 0 else 70,
        lambda row: (None if row["train.lr_per_256"] > 1 else 70) if row.get("model.skipinit_gain") == 0 else 90,
    ),
    "C37": (
        lambda row: 70 if row["train.decay_norm_and_bias"] else 90,
        lambda row: 90 if row["train.decay_norm_and_bias"] else 70,
    ),
    "C44": (lambda row: 60 + row["model.depth"] / 10, lambda row: 90 - row["model.depth"] / 10),
    "C45": (
        lambda row: 90 - (row["model.depth"] / 5 if row.get("model.convolution") == "he" else 0),
        lambda row: 90 - (row["model.depth"] / 5 if row.get("model.convolution") == "scaled_ws" else 0),
    ),
}
# Claims whose arms the paper's single seed, or one scale, leaves without a test there.
NOT_AT_PAPER = {"C26", "C33", "C31", "C32", "C35", "C36"}


@pytest.mark.parametrize("name", WORLDS)
def test_a_clear_effect_decides_a_claim_either_way(results: Path, name: str) -> None:
    true, false = WORLDS[name]
    truly = judged(results, name, "overnight", true)
    assert truly.verdict == "supported", "\n".join(claim_lines.details(truly))
    falsely = judged(results, name, "overnight", false)
    # That fewer collapse is never shown to be false by none that do.
    expected = "inconclusive" if name == "C26" else "contradicted"
    assert falsely.verdict == expected, "\n".join(claim_lines.details(falsely))


@pytest.mark.parametrize("name", sorted(WORLDS.keys() - NOT_AT_PAPER))
def test_five_seeds_of_scale_paper_can_decide_it(results: Path, name: str) -> None:
    truly = judged(results, name, "paper", lambda row: 3 * (WORLDS[name][0](row) or 0))
    assert truly.verdict == "supported", "\n".join(claim_lines.details(truly))


@pytest.mark.parametrize("name", sorted(WORLDS.keys() - {"C23", "C35", "C36"}))
def test_without_an_effect_no_claim_is_supported(results: Path, name: str) -> None:
    def no_effect(row: Row) -> float:
        return overfits(row, 80 if nf(row) or row["train.batch_size"] > 4 else 77)

    found = judged(results, name, "overnight", no_effect)
    assert found.verdict in ("inconclusive", "contradicted") or name in ("C27", "C28"), found.words


def test_silu_has_to_be_as_accurate_as_relu_to_a_point(results: Path) -> None:
    def training(silu: float) -> str:
        world = judged(results, "C47", "overnight", lambda row: silu if row["model.activation"] == "silu" else 80)
        return next(a.decision.verdict for a in world.answers if a.test.form.experiment == "activations")

    assert [training(silu) for silu in (83.0, 79.0, 70.0)] == ["supported", "inconclusive", "contradicted"]


# Controls


@pytest.mark.parametrize(
    ("name", "world", "control"),
    [
        ("C22", lambda row: 90 if nf(row) else 40, "bn_trains"),
        ("C24", lambda row: 70, "bn_profits_from_mixup"),
        ("C27", lambda row: 90 if nf(row) else 70, "bn_loses_at_batch_4"),
        ("C29", lambda row: 90 if nf(row) or row["train.batch_size"] < 1000 else 60, "bn_trains_at_the_large_batch"),
        ("C26", lambda row: 30, "deep_network_trains"),
    ],
)
def test_a_regime_that_cannot_tell_gives_no_verdict(results: Path, name: str, world: World, control: str) -> None:
    found = judged(results, name, "overnight", world)
    assert found.verdict == "not testable"
    assert control in [reading.control.name for reading in found.evidence.failed]


# Collapse and divergence


@pytest.mark.parametrize(
    ("high", "verdict"),
    [
        (lambda seed: None, "supported"),
        (lambda seed: 11, "supported"),  # not diverged, but no better than guessing
        (lambda seed: None if seed < 12 else 80, "inconclusive"),  # as in the paper: too few to tell
        (lambda seed: 80, "inconclusive"),
    ],
)
def test_collapse_is_decided_on_counts(results: Path, high: Callable[[int], float | None], verdict: str) -> None:
    found = judged(results, "C26", "overnight", lambda row: high(row["seed"]) if row["train.lr_per_256"] > 6 else 80)
    assert found.verdict == verdict
    difference = found.answers[1]
    high_count, low_count = (sum(arm.values.values()) for arm in difference.evidence.arms)
    n = found.n
    assert n is not None
    assert difference.evidence.remark == f"{high_count:g} of {n} against {low_count:g} of {n} runs"
    assert difference.decision.interval is not None
    assert difference.decision.interval.mean == pytest.approx((high_count - low_count) / n)


def test_diverged_runs_count_with_the_top_1_of_guessing_where_that_is_failure(results: Path) -> None:
    found = judged(results, "C22", "overnight", lambda row: None if "fixup" in row["model.name"] else 70 + 20 * nf(row))
    assert found.verdict == "supported"
    answer = found.answers[0]
    assert answer.evidence.states == {"completed": found.n, "diverged": found.n}
    assert answer.evidence.remark == f"{found.n} diverged, counted with the top-1 of guessing"
    assert answer.report()["arms"][1]["mean"] == pytest.approx(10.0)  # of 10 classes


def test_the_number_of_classes_is_that_of_the_data() -> None:
    from nfrepro.data import cifar10, fashion_mnist

    assert {"fashion_mnist": len(fashion_mnist.CLASSES), "cifar10": len(cifar10.CLASSES)} == CLASSES


# Scales


def answers_of(found: ClaimVerdict) -> list[Answer]:
    return [answer for answer in found.answers if answer.applies]


def test_a_bound_of_the_paper_s_scale_has_no_part_elsewhere(results: Path) -> None:
    elsewhere = judged(results, "C25", "overnight", lambda row: 79.5)
    assert (elsewhere.verdict, elsewhere.decision.method) == ("not run", "for scale paper only")
    assert judged(results, "C25", "paper", lambda row: 79.5).verdict == "supported"
    assert judged(results, "C25", "paper", lambda row: 75.0).verdict == "contradicted"
    gap = judged(results, "C27", "paper", lambda row: 75 if nf(row) else 70)
    assert gap.verdict == "contradicted"  # 5 points are fewer than 10


def test_a_test_for_each_depth(results: Path) -> None:
    depths = sorted({config["model.depth"] for _, config in configs("table_1", "overnight")})
    found = judged(results, "C23", "overnight", lambda row: 90 if nf(row) else 70)
    assert [answer.report()["selections"]["where"]["model.depth"] for answer in answers_of(found)] == depths
    shallow = judged(
        results, "C23", "overnight", lambda row: 90 if nf(row) == (row["model.depth"] == depths[0]) else 70
    )
    assert [answer.decision.verdict for answer in answers_of(shallow)] == ["supported", "contradicted"]
    assert (shallow.verdict, shallow.words) == ("contradicted", "contradicted in part (1 of 2)")


def test_claims_that_nothing_here_can_test_say_so(results: Path) -> None:
    for found in judge(list(stated().values()), results, "paper"):
        assert found.verdict == ("fact" if found.claim.id in FACTS else "not run")
        assert found.decision.method
        if found.claim.id in UNTESTED | FACTS:
            assert (found.report()["tests"], found.decisive) == ([], None)
