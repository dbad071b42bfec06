"""Figures of shattered gradients: their correlation against depth, and against the distance between inputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from nfrepro.errors import InputError
from nfrepro.plots.style import LINE_STYLES, MARKERS, PALETTE, legend_with_note, new_figure
from nfrepro.stats.decay import Law, fit_decay

Numbers = NDArray[np.float64]

LEAST_DRAWN = 0.004  # of a correlation
COLUMNS = 4  # panels beside each other
MOST_DEPTHS = 9  # lines in one of them
NOISE_LINES: tuple[dict[str, Any], ...] = (
    {"color": "black", "linestyle": ":", "linewidth": 1.0},
    {"color": "black", "linestyle": "--", "linewidth": 1.0},
)


@dataclass(frozen=True)
class Kind:
    """The runs of one kind of network: rows of runs.csv; and how they are drawn."""

    label: str
    runs: pd.DataFrame
    color: int  # in the palette
    style: int  # of markers and dashes

    @property
    def done(self) -> pd.DataFrame:
        """The completed ones."""
        return self.runs[self.runs["state"] == "completed"]

    @property
    def line(self) -> dict[str, Any]:
        """What matplotlib is told."""
        style = {"marker": MARKERS[self.style], "linestyle": LINE_STYLES[self.style], "markersize": 4}
        return {"color": PALETTE[self.color], **style}


def draw_decay(
    kinds: Sequence[Kind],
    title: str,
    note: str,
    depth: str,
    noise: float,
    formulas: Mapping[str, Callable[[Numbers], Numbers]],
) -> Figure:
    """Correlation against depth: exponentials are straight lines on the left, powers on the right.

    Each kind has its fit, a thick line, in the panel of the law that fits its mean better. Below `noise` nothing can be
    read. `formulas` give a correlation for each depth.
    """
    figure = new_figure(width=9.0, height=5.2)
    panels = figure.subplots(1, 2, sharey=True)
    depths = np.concatenate([kind.runs["model.depth"].to_numpy(float) for kind in kinds])
    x = np.geomspace(depths.min(), depths.max(), 200)
    laws: tuple[Law, Law] = ("exponential", "power")
    for axes, law, scale in zip(panels, laws, ("linear", "log"), strict=True):
        for kind in kinds:
            _draw_kind(axes, kind)
            _draw_fit(axes, kind, law, noise)
        for number, formula in enumerate(formulas.values()):
            axes.plot(x, formula(x), zorder=1, **_formula_line(number))
        axes.axhspan(LEAST_DRAWN, noise, color="0.9", zorder=0)
        axes.set_xscale(scale)
        if scale == "log":
            axes.set_xticks(_apart(depths), minor=False)
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_yscale("log")
        axes.set_ylim(LEAST_DRAWN, 1.3)
        axes.set_xlabel(depth)
        axes.set_title("exponentials are straight" if law == "exponential" else "powers are straight")
    panels[0].set_ylabel("correlation of gradients")
    figure.suptitle(fill(title, 100), fontsize=11)
    handles = [Line2D([], [], label=kind.label, **kind.line) for kind in kinds]
    handles += [Line2D([], [], label=name, **_formula_line(number)) for number, name in enumerate(formulas)]
    drawn = "Line: mean, band: range of runs; thick: the law that fits better, in its panel; grey: lost in noise."
    legend_with_note(figure, handles, f"{note} {drawn}", columns=4, characters=135)
    return figure


def draw_distances(
    kinds: Sequence[Kind], curves: Sequence[pd.DataFrame], noises: Mapping[str, pd.Series], title: str, note: str
) -> Figure:
    """The autocorrelation along the circle, a panel a kind, a line a depth.

    `curves` are those of each kind: columns depth, degrees, autocorrelation, of all runs. `noises`: two of them,
    autocorrelation by degrees.
    """
    rows = -(-len(kinds) // COLUMNS)
    figure = new_figure(width=10.0, height=1.8 + 2.2 * rows)
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    colors = _depth_colors(pd.concat(curves)["depth"])
    for axes in panels.flat[len(kinds) :]:
        axes.set_axis_off()
    for axes, kind, own in zip(panels.flat, kinds, curves, strict=False):
        for depth, color in colors.items():
            mean = own[own["depth"] == depth].groupby("degrees")["autocorrelation"].mean()
            axes.plot(mean.index, mean, color=color, linewidth=1.3)
        for noise, line in zip(noises.values(), NOISE_LINES, strict=True):
            axes.plot(noise.index, noise, **line)
        axes.set_title(kind.label, fontsize=10)
        axes.set_xticks([0, 45, 90, 135, 180])
    for axes in panels[-1]:
        axes.set_xlabel("degrees apart")
    for axes in panels[:, 0]:
        axes.set_ylabel("autocorrelation")
    figure.suptitle(fill(title, 110), fontsize=11)
    handles = [Line2D([], [], color=color, label=f"depth {depth}") for depth, color in colors.items()]
    handles += [Line2D([], [], label=name, **line) for name, line in zip(noises, NOISE_LINES, strict=True)]
    legend_with_note(figure, handles, f"{note} Line: mean of runs.", columns=6, characters=135)
    return figure


def _draw_kind(axes: Axes, kind: Kind) -> None:
    over_seeds = kind.done.groupby("model.depth")["gradient_correlation"].agg(["mean", "min", "max"])
    # What is 0 or negative by chance has no logarithm: it leaves the picture below.
    low, mean, high = (over_seeds[name].clip(lower=LEAST_DRAWN / 10) for name in ("min", "mean", "max"))
    axes.fill_between(over_seeds.index, low, high, color=PALETTE[kind.color], alpha=0.18, linewidth=0)
    axes.plot(over_seeds.index, mean, linewidth=0.9, **kind.line)


def _apart(depths: Numbers) -> list[float]:
    """Those whose labels have room on a logarithmic axis."""
    apart: list[float] = []
    for depth in np.unique(depths):
        if not apart or depth >= 1.5 * apart[-1]:
            apart.append(float(depth))
    return apart


def _draw_fit(axes: Axes, kind: Kind, law: Law, noise: float) -> None:
    """Over the depths it was fitted to, if `law` is the better one."""
    mean = kind.done.groupby("model.depth")["gradient_correlation"].mean()
    depths = [float(depth) for depth in mean.index]
    try:
        exponential, power = (fit_decay(depths, mean.tolist(), of, noise) for of in ("exponential", "power"))
    except InputError:
        return
    better = exponential if exponential.r_squared > power.r_squared else power
    if better.law == law:
        x = np.geomspace(depths[0], depths[better.points - 1], 50)
        axes.plot(x, [better.at(depth) for depth in x], color=PALETTE[kind.color], linewidth=2.2, alpha=0.6)


def _formula_line(number: int) -> dict[str, Any]:
    return {"color": "black", "linewidth": 0.8, "linestyle": LINE_STYLES[number]}


def _depth_colors(depths: pd.Series) -> dict[int, Any]:
    """A colour for each depth that is drawn: the least is dark."""
    known = sorted({int(depth) for depth in depths})
    drawn = [known[int(at)] for at in np.linspace(0, len(known) - 1, min(len(known), MOST_DEPTHS))]
    return dict(zip(drawn, sns.color_palette("viridis", len(drawn)), strict=True))
