"""Signal propagation during training: the three statistics after every block at several steps, for BN and NF."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nfrepro.plots.propagation_figure import PANELS
from nfrepro.plots.script import Analysis, run_script
from nfrepro.plots.style import LINE_STYLES, MARKERS, PALETTE, entitle, legend_with_note, new_figure, save_figure
from nfrepro.runs.propagation_curves import check_some, read_curves, seeds_drawn, unfinished

EXPERIMENT = "signal_in_training"
LABELS = {"bn_resnet": "BN (BN-ReLU-Conv)", "nf_resnet": "NF (Scaled WS, alpha 0.2)"}


def analyse(analysis: Analysis) -> Sequence[Path]:
    """A figure with a row of panels for each statistic and a panel for each step."""
    table = analysis.table
    curves = read_curves(table, analysis.runs, lambda row: LABELS[str(row["model.name"])])
    check_some(curves, table, analysis.experiment)
    first = table[table["state"] == "completed"].iloc[0]
    title = f"Signal propagation in training: {first['provenance.data']}, blocks {first['model.blocks']}"
    note = (
        f"training images, batch {first['probe.images']}; line: mean of n = {seeds_drawn(curves)} seeds, "
        f"band: their range; scale {analysis.scale}.{unfinished(table)}"
    )
    return save_figure(draw(curves, title, note), analysis.output)


def draw(curves: Mapping[str, pd.DataFrame], title: str, note: str) -> Figure:
    """The figure, in which all panels of a statistic share the vertical axis."""
    steps = sorted({int(step) for rows in curves.values() for step in rows["step"]})
    figure = new_figure(5.0)
    grid = figure.subplots(len(PANELS), len(steps), sharex=True, sharey="row", squeeze=False)
    for panels, (statistic, name) in zip(grid, PANELS.items(), strict=True):
        for axes, step in zip(panels, steps, strict=True):
            for number, (label, rows) in enumerate(curves.items()):
                over_seeds = rows[rows["step"] == step].groupby("block")[statistic].agg(["mean", "min", "max"])
                color = PALETTE[number]
                axes.fill_between(over_seeds.index, over_seeds["min"], over_seeds["max"], color=color, alpha=0.25)
                line = {"color": color, "linestyle": LINE_STYLES[number], "marker": MARKERS[number], "markersize": 3}
                axes.plot(over_seeds.index, over_seeds["mean"], label=label, **line)
            axes.set_yscale("linear" if statistic == "avg_sq_mean" else "log")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        panels[0].set_ylabel(name)
    for axes, step in zip(grid[0], steps, strict=True):
        axes.set_title(f"step {step}")
    for axes in grid[-1]:
        axes.set_xlabel("block depth")
    entitle(figure, title)
    legend_with_note(figure, grid[0][0].lines, note, columns=2)
    return figure


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
