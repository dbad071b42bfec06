"""Figure 1 of the paper: signal propagation in BN-ResNets of both orders: measured, predicted, printed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from nfrepro.plots.paper_values import FIGURE_1, FIGURE_1_DEPTH
from nfrepro.plots.propagation_figure import draw_propagation
from nfrepro.plots.propagation_table import stage_ends
from nfrepro.plots.script import Analysis, run_script, write_markdown
from nfrepro.plots.style import save_figure
from nfrepro.runs.propagation_curves import read_curves, seeds_drawn, unfinished

EXPERIMENT = "figure_1"
LABELS = {"bn_relu_conv": "BN-ReLU-Conv", "relu_bn_conv": "ReLU-BN-Conv"}
KNOWN = "The paper's figure is read off, with an error of 0.3, and of 0.005 in residual variances; blank: not known."


def analyse(analysis: Analysis) -> Sequence[Path]:
    """Draws the figure; writes the values at the ends of the stages."""
    curves = read_curves(analysis.table, analysis.runs, label)
    first = analysis.table.iloc[0]
    paper = FIGURE_1 if first["model.depth"] == FIGURE_1_DEPTH else ()
    title = f"Figure 1: BN-ResNetV2-{first['model.depth']} at initialisation, scale {analysis.scale}"
    note = method(analysis.table, curves) + unfinished(analysis.table)
    table = write_markdown(analysis.output, title, stage_ends(curves, paper), f"{note} {KNOWN}")
    print(table.read_text())
    return [table, *save_figure(draw_propagation(curves, title, note, paper), analysis.output)]


def label(row: pd.Series) -> str:
    return LABELS[str(row["model.order"])]


def method(table: pd.DataFrame, curves: Mapping[str, pd.DataFrame]) -> str:
    """The input and the number of initialisations, as a note."""
    first = table.iloc[0]
    return (
        f"N(0, 1) input, {first['pixels']} px, batch {first['batch']}, {first['precision']}; "
        f"line: mean of n = {seeds_drawn(curves)} initialisations, band: their range."
    )


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
