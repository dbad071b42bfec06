"""The findings in sentences: their numbers are those of the stored runs, computed here from the runs alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nfrepro.report.findings import SENTENCES, findings

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / "claims.json").read_text(encoding="utf-8"))
    return found


def first_seeds(table: pd.DataFrame, n: int) -> pd.DataFrame:
    return table[table["seed"].isin(sorted(table["seed"].unique())[:n])]


def top1(experiment: str, n: int, **chosen: Any) -> float:
    """The mean over the first n seeds of the runs at scale overnight that have `chosen`; a `_` stands for a dot."""
    table = pd.read_csv(RESULTS / experiment / "overnight" / "runs.csv")
    for name, value in chosen.items():
        column = table[name.replace("__", ".")]
        table = table[column.isna() if value is None else column == value]
    values = first_seeds(table, n)["top1"]
    assert len(values) == n
    return float(values.mean())


def said(content: dict[str, Any], claim: str) -> tuple[str, int]:
    """The sentence about a claim, and its n."""
    (text,) = (text for name, text in findings(content) if name == claim)
    return text, int(text.split(", n = ")[1].split(",")[0])


def points(difference: float) -> str:
    return f"{abs(difference):.1f} points of top-1 {'above' if difference > 0 else 'below'}"


def test_differences_in_accuracy_are_those_of_the_tables(content: dict[str, Any]) -> None:
    text, n = said(content, "C27")
    small = {"train__batch_size": 4}
    ours, others = (top1("table_2", n, model__name=name, **small) for name in ("nf_resnet", "bn_resnet"))
    assert points(ours - others) in text
    text, n = said(content, "C35")
    ours, others = (top1("alpha_ablation", n, model__alpha=a, train__lr_per_256=0.4) for a in (0.2, 1.0))
    assert points(ours - others) in text
    text, n = said(content, "C36")
    chosen = {"model__depth": 20, "train__lr_per_256": 0.4}
    ours, others = (top1("skipinit_gain", n, model__skipinit_gain=gain, **chosen) for gain in (0.0, None))
    assert points(ours - others).replace(" of top-1", "") in text
    text, n = said(content, "C37")
    decays = {"train__weight_decay": 0.005}
    ours, others = (top1("weight_decay_mask", n, train__decay_norm_and_bias=of, **decays) for of in (False, True))
    assert points(ours - others).replace(" of top-1", "") in text


def test_variances_are_those_of_the_stored_curves(content: dict[str, Any]) -> None:
    runs = pd.read_csv(RESULTS / "figure_1" / "overnight" / "runs.csv")
    runs = runs[(runs["model.order"] == "bn_relu_conv") & (runs["state"] == "completed")]
    curves = [pd.read_csv(RESULTS / "runs" / name / "propagation.csv") for name in runs["id"]]
    branches = np.mean([of.loc[of["statistic"] == "res_var", "measured"].median() for of in curves])
    assert f"a variance near {branches:.4g};" in said(content, "C01")[0]
    signal = [of[(of["statistic"] == "avg_var") & of["block"].isin((50, 100, 150))] for of in curves]
    assert f"a variance of {np.mean([of['measured'].median() for of in signal]):.4g};" in said(content, "C48")[0]


def test_every_sentence_is_of_a_claim_of_its_own(content: dict[str, Any]) -> None:
    claims = [sentence.claim for sentence in SENTENCES]
    assert len(set(claims)) == len(claims) == 9
    assert [claim for claim, _ in findings(content)] == claims  # all of these have runs


def test_a_claim_without_runs_has_no_sentence_and_a_lost_test_is_named(content: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(content))
    claim = next(claim for claim in changed["claims"] if claim["id"] == "C01")
    for test in claim["tests"]:
        test["estimate"] = None
    assert "C01" not in dict(findings(changed))
    claim["tests"] = []
    with pytest.raises(LookupError, match="C01: no test of median res_var"):
        list(findings(changed))
