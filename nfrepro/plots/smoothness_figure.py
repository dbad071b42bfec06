"""Smoothness of the loss over training: a band per arm, over points along the gradient (arXiv 1805.11604, figure 4)."""

from collections.abc import Mapping
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from nfrepro.plots.style import LINE_STYLES, MARKERS, NOTE_SIZE, PALETTE, entitle, fill_note, new_figure

# Ruler -> heading of its row of panels.
RULERS = {
    "learning_rate": "steps of multiples of the learning rate",
    "weight_norm": "steps of shares of the norm of the weights",
}
# Quantity -> labels of its panels, by ruler.
PANELS = {
    "loss": ("loss", "loss"),
    "gradient_change": ("change of the gradient\n", "change of the gradient\n/ |gradient|"),
    "beta": ("effective beta-\nsmoothness", "effective beta\n× |weights|²"),
}


def bands(rows: pd.DataFrame, ruler: str) -> pd.DataFrame:
    """The bands of one arm: `low`, `high` and `line` of each quantity at each step, geometric means over seeds.

    `line` is the loss at the weights themselves or, for the other quantities, their largest value. `rows`:
    smoothness.csv of all runs of the arm, with their seeds. Values that are not finite are left out.
    """
    of = rows[rows["ruler"] == ruler]
    beta = of["gradient_change"] / of["distance"]
    relative = ruler == "weight_norm"
    values = {
        "loss": of["loss"],
        "gradient_change": of["gradient_change"] / of["gradient_norm"] if relative else of["gradient_change"],
        "beta": beta * of["weight_norm"] ** 2 if relative else beta,
    }
    found = []
    for quantity, column in values.items():
        points = of.assign(value=column).groupby(["seed", "step"])
        edges = points["value"].agg(["min", "max"]).rename(columns={"min": "low", "max": "high"})
        edges["line"] = points["start_loss"].first() if quantity == "loss" else edges["high"]
        logs = edges.where(edges > 0).replace(np.inf, np.nan).apply(np.log)
        found.append(logs.groupby("step").mean().apply(np.exp).reset_index().assign(quantity=quantity))
    return pd.concat(found, ignore_index=True)


def draw_smoothness(curves: Mapping[str, pd.DataFrame], title: str, note: str) -> Figure:
    """A row of panels for each ruler, a panel for each quantity; `curves`: label -> rows of smoothness.csv."""
    columns = min(len(curves), 4)
    # Heights in inches: the rows of panels, then the note and the legend below them.
    below_panels = 0.13 * len(fill_note(note).splitlines()) + 0.16 * ceil(len(curves) / columns) + 0.15
    heights = [2.35] * len(RULERS) + [below_panels]
    figure = new_figure(height=sum(heights))
    *rows_of_panels, below = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for number, (row, (ruler, heading)) in enumerate(zip(rows_of_panels, RULERS.items(), strict=True)):
        panels = row.subplots(1, len(PANELS))
        for arm, rows in enumerate(curves.values()):
            of_arm = bands(rows, ruler)
            for axes, quantity in zip(panels, PANELS, strict=True):
                _draw(axes, of_arm[of_arm["quantity"] == quantity], arm)
        for axes, names in zip(panels, PANELS.values(), strict=True):
            _set_logarithmic(axes, names[number])
        row.suptitle(heading, fontsize=8)
    entitle(figure, title)
    below.legend(
        handles=[Line2D([], [], label=label, **_style(arm)) for arm, label in enumerate(curves)],
        loc="center",
        ncols=columns,
        frameon=False,
        title=fill_note(note),
        title_fontsize=NOTE_SIZE,
    )
    return figure


def _set_logarithmic(axes: Axes, name: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("training step")
    axes.set_ylabel(name)
    if name == "loss":  # it spans little more than a decade
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.6)))


def _draw(axes: Axes, of_arm: pd.DataFrame, number: int) -> None:
    steps = of_arm["step"]
    axes.fill_between(steps, of_arm["low"], of_arm["high"], color=PALETTE[number], alpha=0.18, linewidth=0)
    axes.plot(steps, of_arm["line"], **_style(number))


def _style(number: int) -> dict[str, Any]:
    return {
        "color": PALETTE[number],
        "linestyle": LINE_STYLES[number % len(LINE_STYLES)],
        "marker": MARKERS[number],
        "markersize": 3,
        "linewidth": 1.4,
    }
