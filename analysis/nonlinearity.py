"""Active, always-on and dead units while networks train, beside accuracy: BN before or after ReLU, NF, unnormalized."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nfrepro.evidence.comparison import Comparison, Factor, read_arms, setting
from nfrepro.evidence.comparison_table import table_note, table_rows
from nfrepro.evidence.figures import new_figure, save_figure
from nfrepro.evidence.propagation_curves import read_curves, unfinished
from nfrepro.evidence.script import Analysis, run_script, write_markdown
from nfrepro.evidence.seed_lines import draw_over_seeds, read_accuracy, surround
from nfrepro.evidence.statistics import mean_interval

EXPERIMENT = "nonlinearity"
FILE = "activation_use.csv"
ORDERS = {"bn_relu_conv": "BN before ReLU", "relu_bn_conv": "BN after ReLU"}
NAMES = {"nf_resnet": "NF (Scaled WS)", "unnormalized_resnet": "unnormalized"}
SHARES = {"active": "active units", "always_on": "always-on units", "dead": "dead units"}


def network(row: pd.Series) -> str:
    """The network of a row of runs.csv; of one with BatchNorm, where that stands."""
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
    """The table; a figure of shares and accuracy over training, and one of shares layer by layer."""
    table, folder = analysis.table, analysis.output.parent
    arms = read_arms(COMPARISON, table, str(analysis.table_path))
    about = setting(COMPARISON, table, analysis.scale)
    rows = [
        row | shares(table[table["id"].isin(arm.ids) & (table["state"] == "completed")])
        for row, arm in zip(table_rows(COMPARISON, arms), arms, strict=True)
    ]
    written = write_markdown(analysis.output, COMPARISON.title, rows, table_note(COMPARISON, arms, about))
    print(written.read_text())
    curves = read_curves(table, folder, network, FILE)
    ordered = {str(arm.key[0]): curves.get(str(arm.key[0]), pd.DataFrame(columns=COLUMNS)) for arm in arms}
    seeds = f"n = {table['seed'].nunique()} seeds"
    note = f"{about}. Line: mean of {seeds}, band: their range.{unfinished(table)}"
    layers = analysis.output.with_name(f"{analysis.output.name}_layers")
    return [
        written,
        *save_figure(draw_training(ordered, read_accuracy(folder, table, arms), note), analysis.output),
        *save_figure(draw_layers(ordered, f"{about}. Mean of {seeds}.{unfinished(table)}"), layers),
    ]


COLUMNS = ["step", "layer", "seed", *SHARES]  # of a network without a completed run, of which nothing is drawn


def shares(done: pd.DataFrame) -> dict[str, str]:
    """Further columns of the table, of the completed runs of an arm: the first measurement and the last."""

    def text(column: str) -> str:
        return mean_interval(done[column].tolist()).text(3)

    return {
        name: f"{text(f'first_{share}')} → {text(f'last_{share}')}" if len(done) else ""
        for share, name in SHARES.items()
    }


def draw_training(curves: Mapping[str, pd.DataFrame], accuracy: Mapping[str, pd.DataFrame], note: str) -> Figure:
    """Shares averaged over layers, and accuracy."""
    figure = new_figure(width=8.0, height=6.4)
    *panels, last = figure.subplots(2, 2).flat
    for axes, (share, name) in zip(panels, SHARES.items(), strict=True):
        draw_over_seeds(axes, curves, "step", share)
        axes.set_ylabel(f"share of {name}")
        axes.set_ylim(bottom=0)
    draw_over_seeds(last, accuracy, "epoch", "test_top1")
    last.set_ylabel("test top-1 (%)")
    return surround(figure, list(curves), "Use of the nonlinearity over training, averaged over layers", note)


def draw_layers(curves: Mapping[str, pd.DataFrame], note: str) -> Figure:
    """Pictures of share by layer (upwards) and measurement; a row of them has one scale of colours."""
    figure = new_figure(width=9.0, height=6.6)
    grid = figure.subplots(len(SHARES), len(curves), sharex=True, sharey=True, squeeze=False)
    for panels, (share, name) in zip(grid, SHARES.items(), strict=True):
        pictures = [rows.pivot_table(index="layer", columns="step", values=share) for rows in curves.values()]
        top = max((picture.to_numpy().max() for picture in pictures if picture.size), default=1.0)
        for axes, picture in zip(panels, pictures, strict=True):
            if picture.size:
                image = axes.pcolormesh(np.arange(picture.shape[1]), picture.index, picture, vmin=0, vmax=top)
                axes.set_xticks(np.arange(picture.shape[1])[::3], [f"{step:g}" for step in picture.columns[::3]])
                axes.grid(False)
        panels[0].set_ylabel("layer")
        figure.colorbar(image, ax=list(panels), label=name)
    for axes, title in zip(grid[0], curves, strict=True):
        axes.set_title(title)
    for axes in grid[-1]:
        axes.set_xlabel("step (not to scale)")
    figure.suptitle("Use of the nonlinearity, layer by layer", fontsize=11)
    figure.supxlabel(fill(note, 150), fontsize=8)
    return figure


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
