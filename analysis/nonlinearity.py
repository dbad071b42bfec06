"""Active, always-on and dead units during training, and accuracy: BN before or after ReLU, NF, unnormalized."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nfrepro.plots.comparison import Comparison, Factor
from nfrepro.plots.comparison_table import over_runs
from nfrepro.plots.script import Analysis, run_script
from nfrepro.plots.seed_lines import draw_over_seeds, surround
from nfrepro.plots.style import NOTE_SIZE, entitle, fill_note, new_figure, save_figure
from nfrepro.plots.watched_training import WatchedTraining, read_watched

EXPERIMENT = "nonlinearity"
FILE = "activation_use.csv"
ORDERS = {"bn_relu_conv": "BN before ReLU", "relu_bn_conv": "BN after ReLU"}
NAMES = {"nf_resnet": "NF (Scaled WS)", "unnormalized_resnet": "unnormalized"}
SHARES = {"active": "active units", "always_on": "always-on units", "dead": "dead units"}
LABELLED = 3  # every third measurement has a label


def network(row: pd.Series) -> str:
    """The network of a row of runs.csv; for one with BatchNorm, the place of BatchNorm."""
    return ORDERS[row["model.order"]] if row["model.name"] == "bn_resnet" else NAMES[str(row["model.name"])]


COMPARISON = Comparison(
    title="Units that images switch on and off, and accuracy",
    axis=Factor("network", ("model.name", "model.order"), network, (*ORDERS.values(), *NAMES.values())),
    without_references="No number of the sources is known for this.",
    remark=(
        "A unit is a channel at a position in front of a ReLU; it is active for images for which it is positive, "
        "always on if for all images of the batch, dead if for none. Shares are averaged over layers, before → after "
        "training."
    ),
)


def analyse(analysis: Analysis) -> Sequence[Path]:
    """The table, a figure of shares and accuracy over training, and one of shares layer by layer."""
    watched = read_watched(COMPARISON, analysis, FILE)
    table = watched.write_table(analysis, shares)
    print(table.read_text())
    layers = analysis.output.with_name(f"{analysis.output.name}_layers")
    return [
        table,
        *save_figure(draw_training(watched), analysis.output),
        *save_figure(draw_layers(watched), layers),
    ]


def shares(completed: pd.DataFrame) -> dict[str, str]:
    """Additional columns of the table: the first measurement and the last."""
    if completed.empty:
        return dict.fromkeys(SHARES.values(), "")
    return {
        name: " → ".join(over_runs(completed, f"{when}_{share}", 3) for when in ("first", "last"))
        for share, name in SHARES.items()
    }


def draw_training(watched: WatchedTraining) -> Figure:
    """A figure of shares averaged over layers, and of accuracy."""
    figure = new_figure(5.2)
    *panels, last = figure.subplots(2, 2).flat
    for axes, (share, name) in zip(panels, SHARES.items(), strict=True):
        draw_over_seeds(axes, watched.curves, "step", share)
        axes.set_ylabel(f"share of {name}")
        axes.set_ylim(bottom=0)
    draw_over_seeds(last, watched.accuracy, "epoch", "test_top1")
    last.set_ylabel("test top-1 (%)")
    title = "Use of the nonlinearity over training, averaged over layers"
    return surround(figure, list(watched.curves), title, watched.note)


def draw_layers(watched: WatchedTraining) -> Figure:
    """A figure of shares by layer (upwards) and measurement, means over seeds; panels in a row share a colour scale."""
    figure = new_figure(5.0)
    grid = figure.subplots(len(SHARES), len(watched.curves), sharex=True, sharey=True, squeeze=False)
    for panels, (share, name) in zip(grid, SHARES.items(), strict=True):
        tables = [rows.pivot_table(index="layer", columns="step", values=share) for rows in watched.curves.values()]
        top = max(table.to_numpy().max() for table in tables if table.size)
        for axes, table in zip(panels, tables, strict=True):
            if table.size:
                places = np.arange(table.shape[1])
                picture = axes.pcolormesh(places, table.index, table, vmin=0, vmax=top)
                axes.set_xticks(places[::LABELLED], [f"{step:g}" for step in table.columns[::LABELLED]])
            axes.grid(False)
        panels[0].set_ylabel("layer")
        figure.colorbar(picture, ax=list(panels), label=f"share of {name}")
    for axes, title in zip(grid[0], watched.curves, strict=True):
        axes.set_title(title)
    for axes in grid[-1]:
        axes.set_xlabel("step (not to scale)")
    entitle(figure, "Use of the nonlinearity, layer by layer")
    figure.supxlabel(fill_note(f"{watched.about}. Mean over seeds."), fontsize=NOTE_SIZE)
    return figure


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
