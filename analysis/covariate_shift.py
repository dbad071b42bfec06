"""Shift of layers' inputs during training, and accuracy: BN, BN with noise, NF, unnormalized."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from nfrepro.plots.comparison import Comparison, Factor
from nfrepro.plots.comparison_table import over_runs
from nfrepro.plots.learning_curves import ROWS
from nfrepro.plots.script import Analysis, run_script
from nfrepro.plots.seed_lines import draw_over_seeds, surround
from nfrepro.plots.style import new_figure, save_figure
from nfrepro.plots.watched_training import WatchedTraining, read_watched

EXPERIMENT = "covariate_shift"
FILE = "covariate_shift.csv"
NAMES = {"bn_resnet": "BN", "nf_resnet": "NF (Scaled WS)", "unnormalized_resnet": "unnormalized"}
SHIFTS = {
    "mean_shift": "change of the mean\n(standard deviations)",
    "std_shift": "change of the deviation\n(logarithm)",
}
# Heading of a column of the table -> column of runs.csv, digits.
NUMBERS = {
    "training top-1 (%)": ("train_top1", 2),
    "shift of the mean": ("mean_shift", 3),
    "shift of the deviation": ("std_shift", 3),
    "constant channels": ("constant", 3),
}


def network(row: pd.Series) -> str:
    """The network of a row of runs.csv, and whether it has noise."""
    name = NAMES[str(row["model.name"])]
    return f"{name} with noise" if row["noise"] > 0 else name


COMPARISON = Comparison(
    title="Shift of layers' inputs from one measurement to the next, and accuracy",
    axis=Factor("network", ("model.name", "noise"), network, ("BN", "BN with noise", "NF (Scaled WS)", "unnormalized")),
    without_references="No number of the sources is known for this.",
    remark=(
        "Shifts are of the same training images, averaged over channels, layers and measurements: that of a channel's "
        "mean in its standard deviations, that of its deviation as a logarithm. Channels that are constant have none. "
        "There is noise in training, and in its accuracy, but not on test images."
    ),
)


def analyse(analysis: Analysis) -> Sequence[Path]:
    """The table, a figure of shifts and accuracy over training, and one of shifts by layer."""
    watched = read_watched(COMPARISON, analysis, FILE)
    table = watched.write_table(analysis, numbers)
    print(table.read_text())
    layers = analysis.output.with_name(f"{analysis.output.name}_layers")
    return [
        table,
        *save_figure(draw_training(watched), analysis.output),
        *save_figure(draw_layers(watched), layers),
    ]


def numbers(completed: pd.DataFrame) -> dict[str, str]:
    """Additional columns of the table."""
    return {
        name: over_runs(completed, column, digits) if len(completed) else ""
        for name, (column, digits) in NUMBERS.items()
    }


def draw_training(watched: WatchedTraining) -> Figure:
    """A figure with shifts above and accuracies below; lines are the same in all panels."""
    figure = new_figure(5.2)
    above, below = figure.subplots(2, 2)
    for axes, (statistic, name) in zip(above, SHIFTS.items(), strict=True):
        draw_over_seeds(axes, watched.curves, "step", statistic)
        axes.set_ylabel(name)
        axes.set_ylim(bottom=0)
    for axes, (column, name) in zip(below, ROWS.items(), strict=True):
        draw_over_seeds(axes, watched.accuracy, "epoch", column)
        axes.set_ylabel(name)
    title = "Internal covariate shift, with and without noise after BatchNorm"
    return surround(figure, list(watched.curves), title, watched.note)


def draw_layers(watched: WatchedTraining) -> Figure:
    """A figure of shifts by layer, averaged over training."""
    figure = new_figure(3.3)
    for axes, (statistic, name) in zip(figure.subplots(1, 2), SHIFTS.items(), strict=True):
        draw_over_seeds(axes, watched.curves, "layer", statistic)
        axes.set_ylabel(name)
        axes.set_ylim(bottom=0)
    title = "Shift of the inputs of each layer, averaged over training"
    return surround(figure, list(watched.curves), title, watched.note)


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
