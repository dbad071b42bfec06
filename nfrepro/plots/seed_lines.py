"""Lines over seeds, one per network, with titles, legends and notes."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nfrepro.plots.style import LINE_STYLES, MARKERS, PALETTE, entitle, legend_with_note


def line_style(number: int) -> dict[str, Any]:
    """Colour, dashes and marker of line `number` of a figure."""
    return {
        "color": PALETTE[number % len(PALETTE)],
        "linestyle": LINE_STYLES[number % len(LINE_STYLES)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 3.5,
    }


def draw_over_seeds(axes: Axes, curves: Mapping[str, pd.DataFrame], along: str, statistic: str) -> None:
    """Draw each network's mean of `statistic` by `along`: a line for the mean over seeds, a band for their range."""
    for number, rows in enumerate(curves.values()):
        if rows.empty:
            continue
        by_seed = rows.groupby([along, "seed"])[statistic].mean().dropna()
        over_seeds = by_seed.groupby(along).agg(["mean", "min", "max"])
        places, style = over_seeds.index.to_numpy(), line_style(number)
        band = {"color": style["color"], "alpha": 0.2, "linewidth": 0}
        axes.fill_between(places, over_seeds["min"], over_seeds["max"], **band)
        axes.plot(places, over_seeds["mean"], linewidth=1.4, **style)
    axes.set_xlabel(along)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))


def surround(figure: Figure, names: Sequence[str], title: str, note: str) -> Figure:
    """The figure, with a title added above all panels, and a legend of the lines and a note below them."""
    entitle(figure, title)
    legend_with_note(
        figure,
        [Line2D([], [], label=name, **line_style(number)) for number, name in enumerate(names)],
        note,
        columns=4,
    )
    return figure
