"""Quantities of claims against closed forms: lines, constant factors, predictions, shares."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from nfrepro.claims.measured_run import MeasuredRun, NoValue
from nfrepro.claims.quantities import Quantity

# Two stages of four blocks, and one of two, through which every line fits.
STAGES = [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]


def quantity(**arguments: Any) -> Any:
    return TypeAdapter(Quantity).validate_python(arguments)


def run_of(
    folder: Path, curves: dict[str, list[float]], predicted: list[float] | None = None, **row: Any
) -> MeasuredRun:
    """A probe with these values after each block."""
    folder.mkdir(parents=True, exist_ok=True)
    transitions = [block == 0 or STAGES[block] != STAGES[block - 1] for block in range(len(STAGES))]
    rows = [
        pd.DataFrame(
            {
                "block": range(1, len(STAGES) + 1),
                "stage": STAGES,
                "transition": transitions,
                "statistic": name,
                "measured": values,
                "predicted": [math.nan] * len(values) if predicted is None else predicted,
            }
        )
        for name, values in curves.items()
    ]
    pd.concat(rows).to_csv(folder / "propagation.csv", index=False)
    return MeasuredRun({"id": folder.name}, folder)


def value(run: MeasuredRun, other: MeasuredRun | None = None, **arguments: Any) -> float:
    return float(quantity(**arguments).value(run, other))


def test_averages_over_blocks(tmp_path: Path) -> None:
    run = run_of(tmp_path / "r", {"res_var": [1, 2, 3, 4, 5, 6, 7, 8, 9, 1000], "avg_var": [2] * 10})
    of = {"name": "curve_average", "statistic": "res_var"}
    assert value(run, **of, average="median") == 5.5
    assert value(run, **of, average="mean") == pytest.approx(104.5)
    assert value(run, **of, average="mean", relative_to="avg_var") == pytest.approx(52.25)
    assert value(run, **of, average="median", at="stage_ends") == 8
    assert value(run, **of, average="mean", stages=[1, 2]) == pytest.approx(4.5)
    assert value(run, **of, average="mean", at="stage_ends", stages=[1, 3]) == pytest.approx(502)
    with pytest.raises(NoValue, match="stage 9"):
        value(run, **of, average="mean", stages=[9])


def test_a_line_in_each_stage(tmp_path: Path) -> None:
    """R squared of (0, 1, 0, 1) against (1, 2, 3, 4) is 1 / 5, by hand, and the slope 1 / 5 as well."""
    exact = run_of(tmp_path / "exact", {"avg_var": [1, 3, 5, 7, 0, 0.5, 1, 1.5, 9, 1]})
    line = {"name": "stage_line", "statistic": "avg_var"}
    assert value(exact, **line, measure="r_squared") == pytest.approx(1.0)
    assert value(exact, **line, measure="slope") == pytest.approx(0.5)
    zigzag = run_of(tmp_path / "zigzag", {"avg_var": [1, 3, 5, 7, 0, 1, 0, 1, 9, 1]})
    assert value(zigzag, **line, measure="r_squared") == pytest.approx(0.2)
    assert value(zigzag, **line, measure="slope") == pytest.approx(0.2)
    flat = run_of(tmp_path / "flat", {"avg_var": [1.0] * 10})
    assert value(flat, **line, measure="r_squared") == 0.0
    assert value(flat, **line, measure="slope") == pytest.approx(0.0, abs=1e-12)


@given(
    curve=st.lists(st.floats(0.1, 100), min_size=10, max_size=10),
    factor=st.floats(0.01, 100),
    bump=st.floats(1.0, 10.0),
)
def test_the_shape_of_a_curve_knows_no_level(
    curve: list[float], factor: float, bump: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A curve that is `factor` times another has its shape; one block at `bump` times that is 9/10 log(bump) off."""
    folder = tmp_path_factory.mktemp("curves")
    other = run_of(folder / "other", {"avg_var": curve})
    scaled = run_of(folder / "scaled", {"avg_var": [factor * v for v in curve]})
    of = {"name": "curve_shape_distance", "statistic": "avg_var"}
    assert value(scaled, other, **of) == pytest.approx(0.0, abs=1e-9)
    bent = run_of(folder / "bent", {"avg_var": [factor * v * (bump if i == 4 else 1.0) for i, v in enumerate(curve)]})
    assert value(bent, other, **of) == pytest.approx(0.9 * math.log(bump), abs=1e-9)


def test_distances_of_some_stages(tmp_path: Path) -> None:
    run = run_of(tmp_path / "r", {"avg_var": [1, 1, 1, 1.1, 1, 1, 1, 1.2, 1, 0.5]}, predicted=[1.0] * 9 + [0.4])
    other = run_of(tmp_path / "o", {"avg_var": [1.0] * 10})
    ends = {"statistic": "avg_var", "at": "stage_ends"}
    assert value(run, other, name="curve_distance", **ends, stages=[1, 2]) == pytest.approx(0.2)
    assert value(run, other, name="curve_distance", **ends) == pytest.approx(0.5)
    assert value(run, name="prediction_distance", **ends, stages=[3]) == pytest.approx(0.25)
    with pytest.raises(NoValue, match="predicted"):
        value(other, name="prediction_distance", **ends)


def test_nearer_as_a_factor(tmp_path: Path) -> None:
    run = MeasuredRun({"id": "r", "here": 2.0, "there": 0.25, "none": 0.0}, tmp_path)
    arguments = {"name": "nearer_in_log", "column": "here", "than": "there"}
    assert value(run, **arguments, target=1.0) == pytest.approx(math.log(2) - math.log(4))
    assert value(run, **arguments, target=0.25) == pytest.approx(math.log(8))
    assert value(run, **arguments, target=0.5**0.5) == pytest.approx(0.0)  # halfway, as a factor
    with pytest.raises(NoValue, match="no logarithm"):
        value(run, **arguments | {"than": "none"}, target=1.0)
    with pytest.raises(ValidationError):
        quantity(**arguments, target=0.0)


def test_a_number_less_another(tmp_path: Path) -> None:
    run = MeasuredRun({"id": "r", "final_train_top1": 70.0, "top1": 58.0}, tmp_path)
    gap = quantity(name="number", column="final_train_top1", minus="top1")
    assert gap.value(run, None) == 12.0
    assert gap.columns == ("final_train_top1", "top1")
    assert str(gap) == "final_train_top1 - top1"
    with pytest.raises(ValidationError, match="not both"):
        quantity(name="number", column="a", minus="b", relative_to=2.0)


def test_a_share_is_of_networks(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    of = {"name": "curve_average", "statistic": "res_var", "average": "median"}
    share = quantity(name="share_of_networks", of=of, below=1.0)
    assert share.share
    for seed in range(5):
        curve = generator.uniform(0.5, 1.5, 10).tolist()
        run = run_of(tmp_path / str(seed), {"res_var": curve})
        assert share.value(run, None) == float(np.median(curve) < 1.0)
    assert value(run, name="share_of_networks", of=of, above=0.1) == 1.0
    for wrong in ({}, {"below": 1.0, "above": 0.0}):
        with pytest.raises(ValidationError, match="below or above"):
            quantity(name="share_of_networks", of=of, **wrong)
    with pytest.raises(ValidationError, match="compares two"):
        quantity(name="share_of_networks", of={"name": "curve_distance", "statistic": "avg_var"}, below=1.0)
