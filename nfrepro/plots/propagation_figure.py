"""The signal propagation plot: three statistics against block depth, measured and predicted (paper section 3)."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, SymmetricalLogLocator

from nfrepro.plots.paper_values import PaperCurve
from nfrepro.plots.style import (
    LINE_STYLES,
    MARKERS,
    PALETTE,
    PREDICTED,
    darker,
    entitle,
    legend_with_note,
    new_figure,
)

# Statistic -> name of its axis, as in figure 1 of the paper. None has a unit.
PANELS = {
    "avg_sq_mean": "average channel\nsquared mean",
    "avg_var": "average channel\nvariance",
    "res_var": "residual average\nchannel variance",
}
MOST_MARKED_STAGES = 8
LEAST_SHOWN = 0.01  # smallest squared mean on a logarithmic axis


def draw_propagation(
    curves: Mapping[str, pd.DataFrame],
    title: str,
    note: str,
    paper: Sequence[PaperCurve] = (),
    logarithmic: bool = False,
) -> Figure:
    """Three panels over `curves`: label -> rows of (seed, block, stage, statistic, measured, predicted).

    A line is the mean over seeds, the band behind it their range, a dot the end of a stage, and a thin line in a darker
    shade of the same colour the prediction; open markers in that colour are the paper's. Rows without a finite measured
    value leave a gap.
    """
    rows_below = -(-(len(curves) + 2) // 3) + len(note) // 130 + len(title) // 90
    figure = new_figure(2.4 + 0.16 * rows_below)
    panels = figure.subplots(1, len(PANELS))
    for axes, (statistic, name) in zip(panels, PANELS.items(), strict=True):
        for number, (label, rows) in enumerate(curves.items()):
            _draw_curve(axes, rows[rows["statistic"] == statistic], label, number)
            for values in paper:
                if values.label == label and values.statistic == statistic:
                    _draw_paper(axes, values, number)
        axes.set_ylabel(name)
        axes.set_xlabel("block depth")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        if logarithmic:
            _set_logarithmic(axes, with_zero=statistic == "avg_sq_mean")
        else:
            _from_zero(axes)
    entitle(figure, title)
    legend_with_note(figure, _legend(curves, paper), note, columns=3)
    return figure


def _draw_curve(axes: Axes, rows: pd.DataFrame, label: str, number: int) -> None:
    if rows.empty:
        return
    over_seeds = rows.groupby("block")["measured"].agg(["mean", "min", "max"])
    blocks, color = over_seeds.index.to_numpy(), PALETTE[number % len(PALETTE)]
    axes.fill_between(blocks, over_seeds["min"], over_seeds["max"], color=color, alpha=0.25, linewidth=0)
    style = LINE_STYLES[number % len(LINE_STYLES)]
    axes.plot(blocks, over_seeds["mean"], linestyle=style, color=color, linewidth=1.8, label=label)
    ends = rows.groupby("stage")["block"].max()
    if len(ends) <= MOST_MARKED_STAGES:
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(ends, over_seeds["mean"].reindex(ends), marker, color=color, markersize=4, zorder=3)
    predicted = rows.groupby("block")["predicted"].mean()
    if predicted.notna().any():
        axes.plot(predicted.index, predicted, color=darker(color), **PREDICTED)


def _draw_paper(axes: Axes, values: PaperCurve, number: int) -> None:
    marker, color = MARKERS[number % len(MARKERS)], PALETTE[number % len(PALETTE)]
    axes.plot(
        values.blocks,
        values.values,
        marker,
        markersize=6,
        markerfacecolor="none",
        markeredgecolor=color,
        markeredgewidth=1.4,
        zorder=5,
    )


def _set_logarithmic(axes: Axes, with_zero: bool) -> None:
    """Sets a logarithmic axis of at most six labels, linear below 0.01 `with_zero`, for values that may be 0."""
    if with_zero:
        axes.set_yscale("symlog", linthresh=LEAST_SHOWN)
        locator = SymmetricalLogLocator(base=10, linthresh=LEAST_SHOWN)
        locator.set_params(numticks=6)
        axes.yaxis.set_major_locator(locator)
        axes.set_ylim(bottom=-LEAST_SHOWN / 5)
    else:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))


def _from_zero(axes: Axes) -> None:
    """Starts the vertical axis slightly below 0, so that a curve at 0 keeps clear of the frame."""
    top = max(axes.dataLim.ymax, 0.1) if np.isfinite(axes.dataLim.ymax) else 1.0
    axes.set_ylim(-0.03 * top, 1.08 * top)


def _legend(curves: Mapping[str, pd.DataFrame], paper: Sequence[PaperCurve]) -> list[Line2D]:
    handles = []
    for number, label in enumerate(curves):
        handle = Line2D([], [], marker=MARKERS[number % len(MARKERS)], markersize=4, label=label)
        handle.set_color(PALETTE[number % len(PALETTE)])
        handle.set_linestyle(LINE_STYLES[number % len(LINE_STYLES)])
        handles.append(handle)
    if any(rows["predicted"].notna().any() for rows in curves.values()):
        handles.append(Line2D([], [], color="0.2", linewidth=PREDICTED["linewidth"], label="prediction (darker)"))
    if paper:
        hollow = Line2D([], [], linestyle="none", marker="o", markersize=6, label="the paper's figure, digitised")
        hollow.set_markerfacecolor("none")
        hollow.set_markeredgecolor("0.3")
        handles.append(hollow)
    return handles
