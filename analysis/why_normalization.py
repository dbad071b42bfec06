"""Smoothness, units in use and shift of layers' inputs, measured in the same training runs (claims W11 to W34)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from nfrepro.plots.comparison import Comparison, Factor
from nfrepro.plots.comparison_table import over_runs
from nfrepro.plots.learning_curves import ROWS
from nfrepro.plots.script import Analysis, run_script
from nfrepro.plots.seed_lines import draw_over_seeds, surround
from nfrepro.plots.smoothness_figure import draw_smoothness
from nfrepro.plots.style import new_figure, save_figure
from nfrepro.plots.watched_training import WatchedTraining, read_watched
from nfrepro.runs.propagation_curves import read_curves, seeds_drawn, unfinished

EXPERIMENT = "why_normalization"
ORDERS = {"bn_relu_conv": "BN before ReLU", "relu_bn_conv": "BN after ReLU"}
NAMES = {"nf_resnet": "NF, Scaled WS", "unnormalized_resnet": "unnormalized"}
NOISY, WITHOUT_WS = "BN before ReLU, noise", "NF without WS"
SHARES = {"active": "active", "always_on": "always-on", "dead": "dead"}
# Column of runs.csv -> heading.
NUMBERS = {
    "log10_loss_range": "range of the loss",
    "log10_gradient_change": "change of the gradient",
    "log10_beta": "beta",
    "mean_shift": "shift of the mean",
    "first_fixed": "units not in use, before",
    "last_fixed": "and after training",
}


def network(row: pd.Series) -> str:
    """The network of a row of runs.csv; for one with BatchNorm, its place and whether noise follows it."""
    if row["model.name"] == "bn_resnet":
        return NOISY if row["noise"] > 0 else ORDERS[str(row["model.order"])]
    without_ws = row["model.name"] == "nf_resnet" and row["model.convolution"] == "he"
    return WITHOUT_WS if without_ws else NAMES[str(row["model.name"])]


COLUMNS = ("model.name", "model.order", "model.convolution", "noise")
COMPARISON = Comparison(
    title="Older explanations of normalization, watched in one training",
    axis=Factor("network", COLUMNS, network, (*ORDERS.values(), NOISY, *NAMES.values(), WITHOUT_WS)),
    without_references="No number of the sources is known for this.",
    remark=(
        "Smoothness: log10 of medians over training; 0.3 is a factor of 2, less is smoother. Shift: of the mean of "
        "layers' inputs from one measurement to the next, in standard deviations. Not in use: on for all images of a "
        "batch, or for none."
    ),
)


def analyse(analysis: Analysis) -> Sequence[Path]:
    """The table, a figure of the smoothness, and one of the units in use, the shift and the accuracy."""
    watched = read_watched(COMPARISON, analysis, "activation_use.csv")
    table = watched.write_table(analysis, numbers)
    print(table.read_text())
    smooth = read_curves(analysis.table, analysis.runs, network, "smoothness.csv")
    in_order = {name: smooth[name] for name in watched.curves if name in smooth}
    shift = read_curves(analysis.table, analysis.runs, network, "covariate_shift.csv")
    in_shift = {name: shift.get(name, rows.iloc[:0]) for name, rows in watched.curves.items()}
    title = f"Smoothness of the loss along its gradient: {watched.about}"
    training = analysis.output.with_name(f"{analysis.output.name}_training")
    return [
        table,
        *save_figure(draw_smoothness(in_order, title, smoothness_note(smooth, analysis.table)), analysis.output),
        *save_figure(draw_training(watched, in_shift), training),
    ]


def numbers(completed: pd.DataFrame) -> dict[str, str]:
    """Additional columns of the table."""
    return {heading: over_runs(completed, column, 2) if len(completed) else "" for column, heading in NUMBERS.items()}


def smoothness_note(curves: Mapping[str, pd.DataFrame], table: pd.DataFrame) -> str:
    """The note on the lines and bands of smoothness, which are over points along the gradient."""
    return (
        "Steps downhill of multiples of the peak learning rate above, of shares of the norm of all weights below. "
        "Band: from the smallest to the largest over these steps; line: of the loss that at the weights themselves, of "
        f"the others the largest; geometric means over n = {seeds_drawn(curves)} seeds.{unfinished(table)}"
    )


def draw_training(watched: WatchedTraining, shift: Mapping[str, pd.DataFrame]) -> Figure:
    """A figure of shares of units and the shift of the mean, both averaged over layers, and of accuracy.

    `shift`: rows of covariate_shift.csv by network, in the order of `watched`.
    """
    figure = new_figure(5.0)
    first, *panels = figure.subplots(2, 3).flat
    draw_over_seeds(first, shift, "step", "mean_shift")
    first.set_ylabel("shift of the mean\n(standard deviations)")
    first.set_ylim(bottom=0)
    for axes, (share, name) in zip(panels[:3], SHARES.items(), strict=True):
        draw_over_seeds(axes, watched.curves, "step", share)
        axes.set_ylabel(f"share of {name} units")
        axes.set_ylim(bottom=0)
    for axes, (column, name) in zip(panels[3:], ROWS.items(), strict=True):
        draw_over_seeds(axes, watched.accuracy, "epoch", column)
        axes.set_ylabel(name)
    title = "Shift of layers' inputs, units in use and accuracy over training"
    return surround(figure, list(watched.curves), title, watched.note)


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
