"""One panel of the figure of a comparison: means, intervals, seeds, a paper's numbers, and runs without a result."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

from nfrepro.plots.comparison import Arm, Comparison
from nfrepro.plots.paper_values import Level, Reference
from nfrepro.plots.run_counts import RunCounts
from nfrepro.plots.style import LINE_STYLES, MARKERS, PALETTE

# Lines at one place of the axis are drawn side by side, over this share of the least distance between places.
SPREAD = {"category": 0.5, "linear": 0.24, "logarithmic": 0.24}
ENOUGH_SEEDS = 5  # from which on an interval is drawn whole
MARGIN = 0.06  # above and below the data, as a share of their height
# Arrowheads for bars that go on; filled triangles would look like the markers of arms.
DOWN, UP = (Path([(-0.8, -end), (0, 0), (0.8, -end)]) for end in (-1, 1))


@dataclass(frozen=True)
class Plan:
    """The places and styles of all arms, which are the same in all panels of a figure."""

    comparison: Comparison
    places: dict[Level, float]  # level of the axis -> its place
    lines: list[Level]  # in the order of markers and colours; a single nameless one if the comparison has no lines

    def level(self, key: Sequence[Level]) -> Level:
        """The level of the axis in the key of an arm."""
        return key[0 if self.comparison.panel is None else 1]

    def line(self, key: Sequence[Level]) -> Level:
        return "" if self.comparison.line is None else key[-1]

    def place(self, key: Sequence[Level], further: float = 0.0) -> float:
        """The place of an arm next to the other lines, shifted to the right by `further` distances between lines."""
        scale, place = self.comparison.axis.scale, self.places[self.level(key)]
        count = len(self.lines)
        share = SPREAD[scale] * (self.lines.index(self.line(key)) - (count - 1) / 2 + further) / max(count, 2)
        if scale == "logarithmic":
            return place * math.exp(share * self.least_distance)
        return place + share * self.least_distance

    @property
    def least_distance(self) -> float:
        """The least distance between neighbours on the axis, in logarithms if the axis is logarithmic."""
        places = list(self.places.values())
        if self.comparison.axis.scale == "logarithmic":
            places = [math.log(place) for place in places]
        if self.comparison.axis.measured:
            return (places[-1] - places[0]) / len(places) or 1.0
        return min(map(float, np.diff(places)), default=1.0)

    def style(self, line: Level) -> dict[str, Any]:
        """Colour and marker of a line and, if the axis has an order, its dashes."""
        number = self.lines.index(line)
        connected = self.comparison.axis.scale != "category"
        return {
            "color": PALETTE[number % len(PALETTE)],
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": LINE_STYLES[number % len(LINE_STYLES)] if connected else "none",
        }


def plan(comparison: Comparison, arms: Sequence[Arm]) -> Plan:
    """The plan for `arms`; lines that only references have are sorted in with the others."""
    ours = [arm.key for arm in arms]
    keys = [*ours, *(key for reference in comparison.references if reference.panel for key in reference.values)]
    lines: list[Level] = [""] if comparison.line is None else comparison.line.sorted([key[-1] for key in keys])
    return Plan(comparison, _places(comparison, ours), lines)


def plan_of_reference(layout: Plan, reference: Reference) -> Plan:
    """The places of a paper's numbers, in the styles of `layout`."""
    return replace(layout, places=_places(layout.comparison, list(reference.values)))


def _places(comparison: Comparison, keys: Sequence[tuple[Level, ...]]) -> dict[Level, float]:
    """The place of each level: categories are evenly spaced, numbers lie at their values."""
    axis = comparison.axis
    levels = axis.sorted([key[0 if comparison.panel is None else 1] for key in keys])
    return {level: float(index if axis.scale == "category" else level) for index, level in enumerate(levels)}


def draw_arms(axes: Axes, plan: Plan, arms: Sequence[Arm]) -> None:
    """Draws mean and interval of every arm, with a line through those of one kind, and every seed as a cross.

    A cross lies next to its mean. A line breaks where an arm has no result.
    """
    for line in plan.lines:
        own = [arm for arm in arms if plan.line(arm.key) == line]
        drawn = [arm for arm in own if arm.values]
        if not drawn:
            continue
        # NaN draws no mark, no bar and no line.
        style, means = plan.style(line), np.array([arm.top1.mean for arm in own])
        ends = np.array([(of.low, of.high) if (of := bar(arm)) else (math.nan, math.nan) for arm in own])
        axes.errorbar(
            [plan.place(arm.key) for arm in own],
            means,
            np.abs(ends.T - means),
            markersize=4,
            linewidth=1.2,
            **style,
        )
        mark_ends(axes, plan, drawn)
        seeds = [(plan.place(arm.key, 0.4), value) for arm in drawn if len(arm.values) > 1 for value in arm.values]
        axes.plot(
            [place for place, _ in seeds],
            [value for _, value in seeds],
            linestyle="none",
            marker="x",
            markersize=3.5,
            color=style["color"],
            markeredgewidth=0.9,
            zorder=3,
        )


def draw_reference(axes: Axes, plan: Plan, reference: Reference) -> None:
    """Draws a paper's numbers as hollow markers, and words at the bottom where training failed."""
    for line in plan.lines:
        known = {key: value for key, value in reference.values.items() if plan.line(key) == line}
        there = {plan.places[plan.level(key)]: value.value for key, value in known.items() if not value.fails}
        style = plan.style(line)
        axes.plot(list(there), list(there.values()), **style, markerfacecolor="none", markersize=6, linewidth=1.0)
        for key, value in known.items():
            if value.fails:
                text, place = f"{line}: fails,\nbelow {value.value:g}", (plan.places[plan.level(key)], 0.02)
                axes.annotate(text, place, xycoords=("data", "axes fraction"), ha="right", fontsize=7)
    axes.margins(y=0.2)
    axes.set_title(reference.panel)


@dataclass(frozen=True)
class CountRow:
    """A line of the strip below a panel."""

    kind: str  # a key of `OF_HOW_MANY`
    line: Level
    label: str

    def text(self, arm: Arm) -> str:
        count, of = OF_HOW_MANY[self.kind](arm.counts)
        return f"{count} of {of}" if count else "0"


# Kinds of runs without an accuracy to draw: their number, and the number that it is out of.
OF_HOW_MANY: dict[str, Callable[[RunCounts], tuple[int, int]]] = {
    "diverged": lambda counts: (counts.diverged, counts.ended),
    "failed or unfinished": lambda counts: (counts.unfinished, counts.runs),
    "not run": lambda counts: (counts.not_run, counts.runs),
}


def count_rows(plan: Plan, arms: Sequence[Arm]) -> list[CountRow]:
    """A row for each line and each kind of run without an accuracy, unless there is no such run."""
    rows = []
    for line in plan.lines:
        own = [arm for arm in arms if plan.line(arm.key) == line]
        prefix = f"{line}: " if line else ""
        for kind, of_how_many in OF_HOW_MANY.items():
            if any(of_how_many(arm.counts)[0] for arm in own):
                rows.append(CountRow(kind, line, f"{prefix}{kind}"))
    return rows


def write_counts(axes: Axes, plan: Plan, arms: Sequence[Arm], rows: Sequence[CountRow], labelled: bool) -> None:
    """Writes the strip below a panel: how many runs of each arm have no result."""
    for height, row in enumerate(reversed(rows)):
        for arm in arms:
            if plan.line(arm.key) == row.line:
                place = plan.places[plan.level(arm.key)]
                axes.text(place, height, row.text(arm), ha="center", va="center", fontsize=7)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_yticks(range(len(rows)), [row.label if labelled else "" for row in reversed(rows)], fontsize=7)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    _set_scale(axes, plan)
    axes.tick_params(which="both", left=False, bottom=False, labelbottom=False)


def tick_label(name: str) -> str:
    """A name in short lines, as the label of a tick."""
    return fill(name, 13, break_long_words=False, break_on_hyphens=False)


def mark_axis(axes: Axes, plan: Plan) -> None:
    """Draws ticks at the levels, with their labels."""
    _set_scale(axes, plan)
    axis = plan.comparison.axis
    if axis.measured:
        places = list(plan.places.values())
        wide = axis.scale == "logarithmic" and places[-1] > 5 * places[0]
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(3))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 930k, 1M, 2G
    else:
        names = [axis.text(level) for level in plan.places]
        axes.set_xticks(list(plan.places.values()), [tick_label(name) for name in names])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(axis.name + (" (logarithmic)" if axis.scale == "logarithmic" else ""))
    if plan.comparison.marked is not None:
        axes.axvline(plan.comparison.marked[0], color="0.5", linestyle=":", zorder=0)


@dataclass(frozen=True)
class Bar:
    """The interval of an arm, as far as it is drawn."""

    low: float
    high: float
    goes_below: bool  # the interval is longer than drawn
    goes_above: bool

    @property
    def is_whole(self) -> bool:
        return not (self.goes_below or self.goes_above)


def bar(arm: Arm) -> Bar | None:
    """The bar of an arm; None if it has no interval.

    With few seeds the interval is many times wider than the range of their values: it is cut off one range beyond them.
    """
    low, high = arm.top1.low, arm.top1.high
    if arm.top1.n < 2:
        return None
    least, most = min(arm.values), max(arm.values)
    reach = math.inf if arm.top1.n >= ENOUGH_SEEDS else most - least
    bottom, top = max(low, least - reach, 0.0), min(high, most + reach, 100.0)
    return Bar(bottom, top, bottom > low, top < high)


def mark_ends(axes: Axes, plan: Plan, arms: Sequence[Arm]) -> None:
    """Draws the ends of all bars: an arrowhead if a bar goes on."""
    for arm in arms:
        drawn = bar(arm)
        if drawn is None:
            continue
        color = plan.style(plan.line(arm.key))["color"]
        for goes_on, end, arrow in ((drawn.goes_below, drawn.low, DOWN), (drawn.goes_above, drawn.high, UP)):
            style: dict[str, Any] = {"marker": arrow if goes_on else "_", "markersize": 6 if goes_on else 4}
            axes.plot([plan.place(arm.key)], [end], color=color, fillstyle="none", clip_on=False, zorder=4, **style)


def percent_range(arms: Sequence[Arm]) -> tuple[float, float]:
    """The smallest and the largest percentage drawn; NaN if there is none."""
    drawn = [value for arm in arms for value in arm.values]
    drawn += [end for found in filter(None, map(bar, arms)) for end in (found.low, found.high)]
    return (min(drawn), max(drawn)) if drawn else (math.nan, math.nan)


def fit_to_percent(axes: Axes, arms: Sequence[Arm]) -> None:
    """Sets the limits of the vertical axis, the same in all panels of `arms`."""
    low, high = percent_range(arms)
    if math.isnan(low):
        axes.set_ylim(0, 100)
        axes.text(0.5, 0.5, "no run is completed", transform=axes.transAxes, ha="center")
        return
    margin = max(MARGIN * (high - low), 0.5)
    axes.set_ylim(max(low - margin, -1.0), min(high + margin, 101.0))


def _set_scale(axes: Axes, plan: Plan) -> None:
    """Sets the same limits in all panels: 0.4 of the least distance around the outermost places."""
    places, room = list(plan.places.values()), 0.4 * plan.least_distance
    if plan.comparison.axis.scale == "logarithmic":
        axes.set_xscale("log")
        axes.set_xlim(places[0] * math.exp(-room), places[-1] * math.exp(room))
    else:
        axes.set_xlim(places[0] - room, places[-1] + room)
