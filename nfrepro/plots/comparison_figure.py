"""The figure of a comparison: panels of means, intervals and seeds, and below them the runs without a result."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nfrepro.plots.comparison import Arm, Comparison
from nfrepro.plots.comparison_axes import (
    Plan,
    bar,
    count_rows,
    draw_arms,
    draw_reference,
    fit_to_percent,
    mark_axis,
    plan,
    plan_of_reference,
    tick_label,
    write_counts,
)
from nfrepro.plots.comparison_table import counts
from nfrepro.plots.style import COLUMN, PAGE, entitle, legend_with_note, new_figure


def draw_comparison(comparison: Comparison, arms: Sequence[Arm], about: str) -> Figure:
    """A figure with a panel for each level of `comparison.panel`, then one for each reference with a panel.

    `about` describes the runs behind the numbers.
    """
    layout = plan(comparison, arms)
    panels, empty = _with_results(_by_panel(comparison, arms))
    references = {
        reference.panel: (plan_of_reference(layout, reference), reference)
        for reference in comparison.references
        if reference.panel
    }
    counted = count_rows(layout, [arm for own in panels.values() for arm in own])
    labels = 0.5 + 0.05 * max((len(row.label) for row in counted), default=0)
    wanted = labels + (len(panels) + len(references)) * _panel_width(layout)
    strip = 0.16 * len(counted)
    figure = new_figure(3.0 + strip + 0.16 * (len(layout.lines) // 4), COLUMN if wanted <= COLUMN else PAGE)
    heights = [2.0, strip] if counted else [2.0]
    grid = figure.subplots(len(heights), len(panels) + len(references), squeeze=False, height_ratios=heights)
    for number, (name, own) in enumerate(panels.items()):
        axes = grid[0][number]
        draw_arms(axes, layout, own)
        fit_to_percent(axes, arms)
        mark_axis(axes, layout)
        axes.tick_params(labelleft=number == 0)
        axes.set_title(name or ("ours" if references else ""))
        if counted:
            write_counts(grid[1][number], layout, own, counted, labelled=number == 0)
    for number, (other, reference) in enumerate(references.values(), start=len(panels)):
        axes = grid[0][number]
        if number > len(panels):
            axes.sharey(grid[0][len(panels)])
        draw_reference(axes, other, reference)
        mark_axis(axes, other)
        if counted:
            grid[1][number].set_axis_off()
    grid[0][0].set_ylabel("test top-1 accuracy (%)")
    entitle(figure, comparison.title)
    columns = 3 if figure.get_figwidth() < PAGE else 5
    legend_with_note(figure, _legend(layout), _note(layout, arms, about) + _not_drawn(empty), columns)
    return figure


def _panel_width(layout: Plan) -> float:
    """The width of a panel in inches: categories need room for their names."""
    axis = layout.comparison.axis
    if axis.scale != "category":
        return 2.2
    longest = max(len(line) for level in layout.places for line in tick_label(axis.text(level)).split("\n"))
    return max(1.6, len(layout.places) * (0.15 + 0.055 * longest))


def _by_panel(comparison: Comparison, arms: Sequence[Arm]) -> dict[str, list[Arm]]:
    """Title -> arms; an empty title if the comparison has no panels."""
    if comparison.panel is None:
        return {"": list(arms)}
    factor = comparison.panel
    panels: dict[str, list[Arm]] = {}
    for arm in arms:
        name = factor.text(arm.key[0])
        panels.setdefault(name if factor.scale == "category" else f"{factor.name} {name}", []).append(arm)
    return panels


def _with_results(panels: Mapping[str, list[Arm]]) -> tuple[dict[str, list[Arm]], list[str]]:
    """The panels with a run that ended, and the names of the others; all panels if no run has ended."""
    drawn = {name: arms for name, arms in panels.items() if any(arm.counts.ended for arm in arms)}
    return (drawn, [name for name in panels if name not in drawn]) if drawn else (dict(panels), [])


def _not_drawn(panels: Sequence[str]) -> str:
    return f" Not drawn, since no run has ended: {', '.join(panels)}." if panels else ""


def _note(layout: Plan, arms: Sequence[Arm], about: str) -> str:
    """The note below the figure, on what is drawn and from which runs."""
    if any(arm.top1.n > 1 for arm in arms):
        drawn = f"Marker and bar: mean and {arms[0].top1.method}, {counts(arms)}; cross: a seed."
    else:
        drawn = f"Marker: mean, {counts(arms)}, no interval."
    if any(not of.is_whole for of in filter(None, map(bar, arms))):
        drawn += " A bar with an arrow goes on: few seeds, and the whole interval is in the table."
    hollow = " Hollow: other papers' numbers, whose sources are in the table." if _has_panels(layout.comparison) else ""
    return f"{about}. {drawn}{hollow}"


def _has_panels(comparison: Comparison) -> bool:
    return any(reference.panel for reference in comparison.references)


def _legend(layout: Plan) -> list[Line2D]:
    handles = [Line2D([], [], label=str(line), markersize=5, **layout.style(line)) for line in layout.lines if line]
    if layout.comparison.marked is not None:
        handles.append(Line2D([], [], label=layout.comparison.marked[1], color="0.5", linestyle=":"))
    return handles
