"""Arms of a comparison and their table: nothing dropped, nothing mixed, intervals against scipy."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from training_table import training_table, without_result

from nfrepro.errors import InputError
from nfrepro.plots.comparison import Comparison, Factor, named, number, read_arms, setting
from nfrepro.plots.comparison_table import table_note, table_rows
from nfrepro.plots.paper_values import PaperValue, Reference

BATCH = Comparison(
    title="top-1 by batch size",
    axis=number("batch size", "train.batch_size"),
    line=named("method", "model.name", {"bn_resnet": "BN", "nf_resnet": "NF"}),
)

PERCENT = st.floats(0, 100, allow_nan=False)
STATES = st.sampled_from(["completed", "diverged", "failed", "missing", "interrupted"])


@settings(max_examples=50)
@given(st.lists(st.tuples(STATES, PERCENT), min_size=12, max_size=12))
def test_every_run_is_counted_once_and_the_interval_is_scipys(runs: list[tuple[str, float]]) -> None:
    table = training_table()
    table["state"] = [state for state, _ in runs]
    table["top1"] = [top1 if state == "completed" else np.nan for state, top1 in runs]
    arms = read_arms(BATCH, table, "runs.csv")
    assert [arm.key for arm in arms] == [(4, "BN"), (4, "NF"), (64, "BN"), (64, "NF")]
    rows = table_rows(BATCH, arms)
    for arm, row in zip(arms, rows, strict=True):
        own = table[table["id"].isin(arm.ids)]
        assert len(own) == 3
        assert (int(row["n"]), int(row["not run"])) == tuple(
            (own["state"] == of).sum() for of in ("completed", "missing")
        )
        assert int(row["failed or unfinished"]) == own["state"].isin(["failed", "interrupted"]).sum()
        assert int(row["diverged"]) == (own["state"] == "diverged").sum()
        values = own["top1"].dropna()
        assert sorted(arm.values) == sorted(values)
        if len(values) > 1 and values.std() > 1e-6:
            low, high = stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
            assert (arm.top1.low, arm.top1.high) == pytest.approx((low, high))
        elif len(values) == 1:
            assert "no interval" in row["test top-1 (%)"]


def test_one_seed_has_no_interval_and_says_so() -> None:
    rows = table_rows(BATCH, read_arms(BATCH, training_table(seeds=(0,)), "runs.csv"))
    assert rows[0]["test top-1 (%)"] == "60.00 (n = 1, no interval)"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("train.precision", "bfloat16"),
        ("train.epochs", 3),
        ("data.train_images", None),
        ("data.name", "cifar10"),
        ("model.width", 0.5),
        ("train.decay_norm_and_bias", False),  # an option that only one run has: made under another schema
    ],
)
def test_runs_that_differ_in_anything_else_are_refused(column: str, value: object) -> None:
    table = training_table()
    table[column] = table.get(column)
    table[column] = table[column].astype(object)
    table.loc[3, column] = value
    with pytest.raises(InputError, match=rf"^runs.csv: runs that differ in {column} "):
        read_arms(BATCH, table, "runs.csv")


def test_options_of_one_family_are_no_difference() -> None:
    """model.order is blank for networks without BatchNorm; between BN networks it is a difference."""
    table = training_table()
    read_arms(BATCH, table, "runs.csv")
    table.loc[3, "model.order"] = "v1"
    with pytest.raises(InputError, match=r"differ in model\.order"):
        read_arms(BATCH, table, "runs.csv")


def test_what_a_factor_names_may_differ() -> None:
    table = training_table()
    table["train.grad_accum_steps"] = table["train.batch_size"] // 4
    with pytest.raises(InputError, match=r"differ in train\.grad_accum_steps"):
        read_arms(BATCH, table, "runs.csv")
    allowed = Comparison("", number("batch size", "train.batch_size", also=("train.grad_accum_steps",)), BATCH.line)
    assert len(read_arms(allowed, table, "runs.csv")) == 4


@pytest.mark.parametrize("column", ["train.batch_size", "model.name", "top1", "seed"])
def test_a_table_without_a_column_is_refused_by_its_name(column: str) -> None:
    with pytest.raises(InputError, match=f"^runs.csv: column {column} is missing"):
        read_arms(BATCH, training_table().drop(columns=column), "runs.csv")


def test_other_nonsense_is_refused() -> None:
    blank = training_table()
    blank.loc[0, "top1"] = np.nan
    with pytest.raises(InputError, match="run nf_resnet-4-0 is completed, but top1 is blank"):
        read_arms(BATCH, blank, "runs.csv")
    twice = training_table().assign(seed=1)
    with pytest.raises(InputError, match="seed 1 appears twice in arm 4, BN"):
        read_arms(BATCH, twice, "runs.csv")
    no_batch = training_table()
    no_batch["train.batch_size"] = no_batch["train.batch_size"].astype(float)
    no_batch.loc[0, "train.batch_size"] = np.nan
    with pytest.raises(InputError, match=r"run nf_resnet-4-0 has no number in train.batch_size"):
        read_arms(BATCH, no_batch, "runs.csv")
    with pytest.raises(InputError, match="it contains no runs"):
        read_arms(BATCH, training_table().head(0), "runs.csv")


def test_levels_stand_in_their_order_and_unknown_ones_last() -> None:
    factor = named("clipping", "clip", {None: "none", 0.01: "AGC"})
    rows = [pd.Series({"clip": value}) for value in (0.5, 0.01, np.nan)]
    assert factor.sorted([factor.level(row) for row in rows]) == ["none", "AGC", "0.5"]
    sizes = Factor("size", ("size",), lambda row: float(row["size"]), scale="logarithmic")
    assert sizes.sorted([1024.0, 8.0, 8.0, 4.0]) == [4.0, 8.0, 1024.0]


def test_the_papers_numbers_stand_beside_ours_with_how_they_are_known() -> None:
    paper = Reference(
        heading="paper (ImageNet)",
        source="table 2",
        values={(4, "NF"): PaperValue(69.9, "second hand"), (8, "NF"): PaperValue(70, "read off", fails=True)},
    )
    comparison = Comparison("", BATCH.axis, BATCH.line, references=(paper,))
    table = training_table()
    arms = read_arms(comparison, table, "runs.csv")
    assert [row["paper (ImageNet)"] for row in table_rows(comparison, arms)] == ["", "69.9 (second hand)", "", ""]
    note = table_note(comparison, arms, setting(comparison, table, "laptop"))
    assert "Fashion-MNIST (4,000 training images), epochs: 2, float32, scale laptop" in note
    assert 'Column "paper (ImageNet)": table 2. For arms that are not here: 8, NF: fails, below 70 (read off).' in note
    assert "No number of the paper is known" in table_note(BATCH, arms, "")


def test_a_failed_first_run_spoils_no_heading() -> None:
    table = without_result(training_table(), "nf_resnet-4-0", "failed")
    table.loc[0, ["provenance.data", "provenance.data_fingerprint"]] = None
    assert "Fashion-MNIST (4,000" in setting(BATCH, table, "laptop")
