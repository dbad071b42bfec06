"""How far the inputs of layers move while networks train, beside accuracy: BN, BN with noise, NF, unnormalized."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from nfrepro.evidence.comparison import Comparison, Factor, read_arms, setting
from nfrepro.evidence.comparison_table import table_note, table_rows
from nfrepro.evidence.figures import new_figure, save_figure
from nfrepro.evidence.learning_curves import ROWS
from nfrepro.evidence.propagation_curves import read_curves, unfinished
from nfrepro.evidence.script import Analysis, run_script, write_markdown
from nfrepro.evidence.seed_lines import draw_over_seeds, read_accuracy, surround
from nfrepro.evidence.statistics import mean_interval

EXPERIMENT = "covariate_shift"
FILE = "covariate_shift.csv"
NAMES = {"bn_resnet": "BN", "nf_resnet": "NF (Scaled WS)", "unnormalized_resnet": "unnormalized"}
SHIFTS = {
    "mean_shift": "change of the mean\n(standard deviations)",
    "std_shift": "change of the deviation\n(logarithm)",
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
    """The table; a figure of shifts and accuracy over training, and one of shifts by layer."""
    table, folder = analysis.table, analysis.output.parent
    arms = read_arms(COMPARISON, table, str(analysis.table_path))
    about = setting(COMPARISON, table, analysis.scale)
    rows = [
        row | shifts(table[table["id"].isin(arm.ids) & (table["state"] == "completed")])
        for row, arm in zip(table_rows(COMPARISON, arms), arms, strict=True)
    ]
    written = write_markdown(analysis.output, COMPARISON.title, rows, table_note(COMPARISON, arms, about))
    print(written.read_text())
    curves = read_curves(table, folder, network, FILE)
    ordered = {str(arm.key[0]): curves.get(str(arm.key[0]), pd.DataFrame(columns=COLUMNS)) for arm in arms}
    note = f"{about}. Line: mean of n = {table['seed'].nunique()} seeds, band: their range.{unfinished(table)}"
    layers = analysis.output.with_name(f"{analysis.output.name}_layers")
    return [
        written,
        *save_figure(draw_training(ordered, read_accuracy(folder, table, arms), note), analysis.output),
        *save_figure(draw_layers(ordered, note), layers),
    ]


COLUMNS = ["step", "layer", "seed", *SHIFTS]  # of a network without a completed run, of which nothing is drawn


def shifts(done: pd.DataFrame) -> dict[str, str]:
    """Further columns of the table, of the completed runs of an arm."""
    numbers = {
        "training top-1 (%)": ("train_top1", 2),
        "shift of the mean": ("mean_shift", 3),
        "shift of the deviation": ("std_shift", 3),
        "constant channels": ("constant", 3),
    }
    return {
        name: mean_interval(done[column].tolist()).text(digits) if len(done) else ""
        for name, (column, digits) in numbers.items()
    }


def draw_training(curves: Mapping[str, pd.DataFrame], accuracy: Mapping[str, pd.DataFrame], note: str) -> Figure:
    """Shifts above, accuracies below; the same lines in all panels."""
    figure = new_figure(width=8.0, height=6.4)
    above, below = figure.subplots(2, 2)
    for axes, (statistic, name) in zip(above, SHIFTS.items(), strict=True):
        draw_over_seeds(axes, curves, "step", statistic)
        axes.set_ylabel(name)
        axes.set_ylim(bottom=0)
    for axes, (column, name) in zip(below, ROWS.items(), strict=True):
        draw_over_seeds(axes, accuracy, "epoch", column)
        axes.set_ylabel(name)
    return surround(figure, list(curves), "Internal covariate shift, with and without noise after BatchNorm", note)


def draw_layers(curves: Mapping[str, pd.DataFrame], note: str) -> Figure:
    """Shifts by layer, averaged over training."""
    figure = new_figure(width=8.0, height=4.0)
    for axes, (statistic, name) in zip(figure.subplots(1, 2), SHIFTS.items(), strict=True):
        draw_over_seeds(axes, curves, "layer", statistic)
        axes.set_ylabel(name)
        axes.set_ylim(bottom=0)
    return surround(figure, list(curves), "Shift of the inputs of each layer, averaged over training", note)


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
