"""Collapses: counted as they are defined, shares against scipy, the map shows every run."""

import math

import numpy as np
import pandas as pd
import pytest
from project_scripts import script
from scipy import stats
from test_propagation_figure import cut_off, overlaps, without_warnings

SCRIPT = script("deep_stability")
collapses, draw_stability = SCRIPT.collapses, SCRIPT.draw_stability
read_outcomes, stability_rows = SCRIPT.read_outcomes, SCRIPT.stability_rows
PAPER = {0.2: (0, 5), 0.4: (2, 5)}


def table() -> pd.DataFrame:
    """At rate 0.2 all five seeds learn; at 0.4 one diverges, one ends at chance, one failed, two learn."""
    rows = [
        {"state": "completed", "seed": seed, "top1": 80.0, "train.lr_per_256": lr, "train.batch_size": 1024}
        for lr in (0.05, 0.1)
        for seed in range(5)
    ]
    made = pd.DataFrame(rows).assign(**{"data.name": "cifar10", "diverged_at_step": math.nan})
    made.loc[5, ["state", "top1", "diverged_at_step"]] = ["diverged", math.nan, 120]
    made.loc[6, "top1"] = 10.4
    made.loc[7, ["state", "top1"]] = ["failed", math.nan]
    return made


def test_the_table_counts_by_rate() -> None:
    low, high = stability_rows(read_outcomes(table()), PAPER)
    assert list(low.values()) == ["0.2", "0", "0", "0 (0 to 52)", "5", "0", "0", "80.00 ± 0.00", "0 of 5"]
    assert list(high.values()) == ["0.4", "1", "1", "50 (7 to 93)", "4", "1", "0", "80.00 ± 0.00", "2 of 5"]


def test_the_share_has_the_exact_interval() -> None:
    share = collapses([outcome for outcome in read_outcomes(table()) if outcome.rate == 0.4])
    assert share is not None
    expected = stats.binomtest(2, 4).proportion_ci(0.95, method="exact")
    assert (share.low, share.high) == pytest.approx((100 * expected.low, 100 * expected.high))
    missing = read_outcomes(table().assign(state="missing", top1=math.nan))
    assert collapses(missing) is None
    assert stability_rows(missing, {})[0]["collapsed (%)"] == ""


def test_guessing_depends_on_the_number_of_classes() -> None:
    of_many = table().assign(**{"data.name": "imagenet", "data.classes": 1000})
    assert not any(outcome.at_chance or outcome.is_low for outcome in read_outcomes(of_many))
    of_many.loc[0, "top1"] = 0.12
    assert [outcome.is_low for outcome in read_outcomes(of_many)].count(True) == 1
    assert not any(outcome.at_chance for outcome in read_outcomes(of_many))  # 0.12 % is not 0.1 %
    unknown = table().assign(**{"id": "run", "data.name": "image_folder"})
    assert not any(outcome.at_chance for outcome in read_outcomes(unknown))


def test_the_map_shows_every_run_and_the_share_beside_the_papers() -> None:
    figure = without_warnings(draw_stability(read_outcomes(table()), PAPER, "title", "note"))
    left, right = figure.axes
    words = [text.get_text() for text in left.texts]
    assert sorted(words) == sorted(["80.0"] * 7 + ["step 120", "10.4\nat chance", "failed"])
    assert [label.get_text() for label in left.get_xticklabels()] == ["0.2", "0.4"]
    ours, theirs = right.containers
    assert list(ours.lines[0].get_ydata()) == [0, 50]
    assert list(theirs.lines[0].get_ydata()) == [0, 40]
    assert not cut_off(figure)
    assert not overlaps(figure)


def test_no_line_crosses_a_rate_without_a_run_that_ended() -> None:
    between = table().loc[:4].assign(**{"train.lr_per_256": 0.07, "state": "missing", "top1": math.nan})
    figure = without_warnings(draw_stability(read_outcomes(pd.concat([table(), between])), {}, "title", "note"))
    (ours,) = figure.axes[1].containers
    assert np.isnan(np.asarray(ours.lines[0].get_ydata(), float)).tolist() == [False, True, False]
