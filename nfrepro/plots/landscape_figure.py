"""Loss surfaces side by side, as contours on one logarithmic scale of colours (after arXiv 1712.09913)."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nfrepro.plots.style import new_figure

COLOURS = "viridis"
# Colours reach from the least loss of all surfaces to the largest, at most and at least over so many times the least.
LARGEST_RATIO, SMALLEST_RATIO = 30.0, 1.1
COLOUR_LEVELS = 24
# Contours that are drawn and labelled.
CONTOURS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 5.0, 10.0, 20.0, 50.0)
TICKS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)


def draw_landscapes(surfaces: Mapping[str, pd.DataFrame], title: str, note: str) -> Figure:
    """A picture for each label; `surfaces`: its rows of landscape.csv. A cross marks the trained weights."""
    figure = new_figure(width=0.9 + 2.6 * len(surfaces), height=3.6)
    panels = figure.subplots(1, len(surfaces), sharex=True, sharey=True, squeeze=False)[0]
    grids = {label: _grid(rows) for label, rows in surfaces.items()}
    norm = _scale(list(grids.values()))
    for axes, (label, grid) in zip(panels, grids.items(), strict=True):
        _draw(axes, grid, norm)
        middle = grid.to_numpy(float)[len(grid) // 2, len(grid) // 2]
        axes.set_title(f"{label}\nloss {middle:.2f} in the middle", fontsize=9)
        axes.set_xlabel("second direction")
    panels[0].set_ylabel("first direction")
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=list(panels), extend="max", label="loss", pad=0.01)
    bar.set_ticks(_within(TICKS, norm), labels=[f"{tick:g}" for tick in _within(TICKS, norm)])
    bar.minorticks_off()
    figure.suptitle(fill(title, 110), fontsize=11)
    figure.supxlabel(fill(note, 165), fontsize=8)
    return figure


def _grid(rows: pd.DataFrame) -> pd.DataFrame:
    """Losses by coordinate along the first direction (rows) and the second (columns)."""
    return rows.pivot(index="first", columns="second", values="loss")


def _scale(grids: list[pd.DataFrame]) -> LogNorm:
    losses = np.concatenate([grid.to_numpy().ravel() for grid in grids])
    losses = losses[np.isfinite(losses) & (losses > 0)]
    least = float(losses.min())
    return LogNorm(least, float(np.clip(losses.max(), SMALLEST_RATIO * least, LARGEST_RATIO * least)))


def _within(levels: Sequence[float], norm: LogNorm) -> list[float]:
    assert norm.vmin is not None
    assert norm.vmax is not None
    return [level for level in levels if norm.vmin < level < norm.vmax]


def _draw(axes: Axes, grid: pd.DataFrame, norm: LogNorm) -> None:
    assert norm.vmin is not None
    assert norm.vmax is not None
    x, y = grid.columns.to_numpy(float), grid.index.to_numpy(float)
    losses = np.nan_to_num(grid.to_numpy(float), nan=np.inf).clip(norm.vmin, 1e3 * norm.vmax)
    levels = np.geomspace(norm.vmin, norm.vmax, COLOUR_LEVELS)
    axes.contourf(x, y, losses, levels=levels, norm=norm, cmap=COLOURS, extend="max")
    if contours := _within(CONTOURS, norm):
        lines = axes.contour(x, y, losses, levels=contours, colors="white", linewidths=0.6)
        axes.clabel(lines, fmt="%g", fontsize=7)
    axes.plot(0.0, 0.0, "+", color="red", markersize=7)
    axes.set_aspect("equal")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.grid(False)
