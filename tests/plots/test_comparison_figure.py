"""The figure of a comparison: what is drawn where, and that nothing is lost or hidden."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from test_comparison import BATCH
from test_propagation_figure import cut_off, overlaps, without_warnings
from training_table import training_table, without_result

from nfrepro.plots.comparison import Comparison, read_arms
from nfrepro.plots.comparison_axes import DOWN, UP
from nfrepro.plots.comparison_figure import draw_comparison
from nfrepro.plots.paper_values import PaperValue, Reference


def drawn(table: pd.DataFrame, comparison: Comparison = BATCH) -> Figure:
    return without_warnings(draw_comparison(comparison, read_arms(comparison, table, "runs.csv"), "made up"))


def strip(figure: Figure) -> tuple[list[str], list[list[str]]]:
    """Labels and cells of the rows below the panel, from above."""
    axes = figure.axes[1]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    rows = [[text.get_text() for text in axes.texts if text.get_position()[1] == at] for at in range(len(labels))]
    return labels[::-1], rows[::-1]


def test_means_intervals_and_seeds_of_every_line() -> None:
    figure = drawn(training_table())
    (axes,) = figure.axes
    half = 4.302653 / 3**0.5  # of three seeds with standard deviation 1
    for bars, mean in zip(axes.containers, (61.0, 71.0), strict=True):
        assert list(bars.lines[0].get_ydata()) == [mean, mean]
        ends = bars.lines[2][0].get_segments()
        assert [list(segment[:, 1]) for segment in ends] == [pytest.approx([mean - half, mean + half], abs=1e-5)] * 2
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [sorted(line.get_ydata()) for line in crosses] == [[60, 60, 61, 61, 62, 62], [70, 70, 71, 71, 72, 72]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["4", "64"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["BN", "NF"]
    assert "n = 3" in legend.get_title().get_text()
    assert not cut_off(figure)
    assert not overlaps(figure)


def test_runs_without_result_are_written_below_their_place() -> None:
    table = training_table()
    for name, state in (("bn_resnet-4-0", "diverged"), ("bn_resnet-4-1", "diverged"), ("nf_resnet-64-2", "missing")):
        table = without_result(table, name, state)
    figure = drawn(table)
    assert strip(figure) == (["BN: diverged", "NF: not run"], [["2 of 3", "0"], ["0", "1 of 3"]])
    assert not cut_off(figure)
    assert not overlaps(figure)


def test_a_line_breaks_where_an_arm_has_no_result() -> None:
    table = training_table((4, 16, 64))
    table.loc[table["train.batch_size"] == 16, ["state", "top1"]] = ["missing", None]
    figure = drawn(table)
    for bars in figure.axes[0].containers:
        assert np.isnan(bars.lines[0].get_ydata()).tolist() == [False, True, False]


@pytest.mark.parametrize("state", ["diverged", "missing"])
def test_without_any_result_it_says_so(state: str) -> None:
    figure = drawn(training_table().assign(state=state, top1=None))
    assert "no run is completed" in [text.get_text() for text in figure.axes[0].texts]
    assert {cell for row in strip(figure)[1] for cell in row} == {"3 of 3"}


def test_a_single_seed_has_no_bar_and_says_so() -> None:
    figure = drawn(training_table(seeds=(0,)))
    assert "n = 1, no interval" in figure.legends[0].get_title().get_text()
    for bars in figure.axes[0].containers:
        assert not any(segment.size for segment in bars.lines[2][0].get_segments())


def test_wide_intervals_of_two_seeds_do_not_squeeze_the_picture() -> None:
    figure = drawn(training_table(seeds=(0, 1)))
    low, high = figure.axes[0].get_ylim()
    assert (low > 55, high < 75) == (True, True)
    assert "whole interval is in the table" in " ".join(figure.legends[0].get_title().get_text().split())


def test_a_bar_that_is_cut_ends_in_an_arrow() -> None:
    figure = drawn(training_table(seeds=(0, 1)))
    (axes,) = figure.axes
    # Of BN the seeds 60 and 61, whose interval is 60.5 ± 6.35, are drawn as far beyond as they lie apart.
    (segment, *_) = axes.containers[0].lines[2][0].get_segments()
    assert list(segment[:, 1]) == pytest.approx([59, 62])
    arrows = {(line.get_marker(), float(line.get_ydata()[0])) for line in axes.lines if line.get_marker() in (DOWN, UP)}
    assert {(DOWN, 59.0), (UP, 62.0)} <= arrows
    assert not [line for line in drawn(training_table(seeds=range(5))).axes[0].lines if line.get_marker() in (DOWN, UP)]


def test_a_reference_has_a_panel_of_its_own() -> None:
    values = {(256, "NF"): PaperValue(76.6, "read off"), (4096, "NF"): PaperValue(70, "read off", fails=True)}
    comparison = Comparison("", BATCH.axis, BATCH.line, references=(Reference("theirs", "figure 2", values, "theirs"),))
    figure = drawn(training_table(), comparison)
    ours, theirs = figure.axes
    assert [label.get_text() for label in ours.get_xticklabels()] == ["4", "64"]
    assert [label.get_text() for label in theirs.get_xticklabels()] == ["256", "4096"]
    points = [(*line.get_xdata(), *line.get_ydata()) for line in theirs.lines if len(line.get_xdata())]
    assert points == [(256, 76.6)]
    assert [text.get_text() for text in theirs.texts] == ["NF: fails,\nbelow 70"]
    assert not cut_off(figure)


def test_a_panel_without_a_run_that_ended_is_named_instead_of_drawn() -> None:
    comparison = Comparison("", BATCH.axis, None, panel=BATCH.line)
    table = training_table()
    table.loc[table["model.name"] == "bn_resnet", ["state", "top1"]] = ["missing", None]
    figure = drawn(table, comparison)
    assert [axes.get_title() for axes in figure.axes] == ["NF"]
    note = " ".join(figure.legends[0].get_title().get_text().split())
    assert "Not drawn, since no run has ended: BN." in note


def test_a_panel_for_each_level_with_the_same_limits() -> None:
    comparison = Comparison("", BATCH.axis, None, panel=BATCH.line)
    figure = drawn(training_table(), comparison)
    assert [axes.get_title() for axes in figure.axes] == ["BN", "NF"]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
