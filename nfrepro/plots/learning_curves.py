"""Accuracy over epochs, on training and test images: a picture for each place of a comparison."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nfrepro.plots.comparison import Arm, Comparison
from nfrepro.plots.comparison_axes import Plan, plan
from nfrepro.plots.paper_values import Level
from nfrepro.plots.style import COLUMN, LINE_STYLES, PAGE, entitle, legend_with_note, new_figure
from nfrepro.runs import store

ROWS = {"train_top1": "training top-1 (%)", "test_top1": "test top-1 (%)"}


def read_learning_curves(folder: Path, arms: Sequence[Arm]) -> pd.DataFrame:
    """Rows of (id, epoch, train_top1, test_top1) of all runs of `arms` in `folder`, including diverged ones."""
    rows = [
        {"id": name, "epoch": row["epoch"], **{column: row.get(column) for column in ROWS}}
        for arm in arms
        for name in arm.ids
        for row in store.read_metrics(folder / name)
        if "epoch" in row
    ]
    return pd.DataFrame(rows, columns=["id", "epoch", *ROWS]).astype(dict.fromkeys(ROWS, float))


def draw_learning_curves(comparison: Comparison, arms: Sequence[Arm], curves: pd.DataFrame, about: str) -> Figure:
    """A column of panels for each level of panel and axis; a line is the mean over seeds, thin lines are the seeds."""
    layout = plan(comparison, arms)
    cells: dict[tuple[Level, ...], list[Arm]] = {}
    begun = set(curves["id"])
    for arm in arms:
        if begun and begun.isdisjoint(arm.ids):
            continue  # its picture would be empty
        cells.setdefault(arm.key if comparison.line is None else arm.key[:-1], []).append(arm)
    figure = new_figure(3.9, COLUMN if len(cells) < 3 else PAGE)
    grid = figure.subplots(len(ROWS), len(cells), sharex=True, sharey="row", squeeze=False)
    for panels, (column, name) in zip(grid, ROWS.items(), strict=True):
        for axes, own in zip(panels, cells.values(), strict=True):
            for arm in own:
                _draw_arm(axes, layout, arm, curves[curves["id"].isin(arm.ids)], column)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        panels[0].set_ylabel(name)
    for axes, own in zip(grid[0], cells.values(), strict=True):
        axes.set_title(_cell_title(comparison, own[0]))
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    entitle(figure, comparison.title)
    legend_with_note(
        figure,
        [Line2D([], [], label=str(line), **_style(layout, line)) for line in layout.lines if line],
        f"{about}. Line: mean over the seeds that got so far; thin: a seed.",
        columns=3,
    )
    return figure


def _draw_arm(axes: Axes, layout: Plan, arm: Arm, rows: pd.DataFrame, column: str) -> None:
    style = _style(layout, layout.line(arm.key))
    for _, run in rows.groupby("id", sort=False):
        axes.plot(run["epoch"], run[column], color=style["color"], linewidth=0.6, alpha=0.6)
    mean = rows.groupby("epoch")[column].mean()
    axes.plot(mean.index, mean, **style)


def _style(layout: Plan, line: Level) -> dict[str, Any]:
    """The style of a line, with dashes even if the axis has categories: here it has epochs."""
    number = layout.lines.index(line)
    return {**layout.style(line), "linestyle": LINE_STYLES[number % len(LINE_STYLES)], "markersize": 4}


def _cell_title(comparison: Comparison, arm: Arm) -> str:
    names = []
    for factor, level in zip(comparison.factors, arm.key, strict=True):
        if factor is not comparison.line:
            names.append(factor.text(level) if factor.scale == "category" else f"{factor.name} {factor.text(level)}")
    return "\n".join(names)
