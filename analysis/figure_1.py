"""Figure 1 of the paper: signal propagation in BN-ResNets of both orders, measured, predicted and as printed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from nfrepro.plots.propagation_figure import PaperValues, draw_propagation
from nfrepro.plots.propagation_table import stage_ends
from nfrepro.plots.script import Analysis, run_script, write_markdown
from nfrepro.plots.style import save_figure
from nfrepro.runs.propagation_curves import read_curves, seeds_drawn, unfinished

EXPERIMENT = "figure_1"
LABELS = {"bn_relu_conv": "BN-ReLU-Conv", "relu_bn_conv": "ReLU-BN-Conv"}
PAPER_DEPTH = 600
# Read off the paper's figure 1 at the ends of its four stages; error 0.3 in the first two, 0.005 in the last.
STAGE_ENDS = (50, 100, 150, 200)
PAPER = (
    PaperValues("BN-ReLU-Conv", "avg_sq_mean", STAGE_ENDS, (13.7, 14.6, 16.8, 17.2)),
    PaperValues("ReLU-BN-Conv", "avg_sq_mean", STAGE_ENDS, (0.0, 0.0, 0.0, 0.0)),
    PaperValues("BN-ReLU-Conv", "avg_var", (200,), (35.1,)),
    PaperValues("ReLU-BN-Conv", "avg_var", STAGE_ENDS, (50.9, 50.9, 51.2, 51.2)),
    PaperValues("BN-ReLU-Conv", "res_var", STAGE_ENDS, (0.692, 0.678, 0.683, 0.685)),
    PaperValues("ReLU-BN-Conv", "res_var", STAGE_ENDS, (1.007, 0.995, 0.997, 1.001)),
)


def analyse(analysis: Analysis) -> Sequence[Path]:
    """Draws the figure; writes the values at the ends of the stages."""
    curves = read_curves(analysis.table, analysis.runs, label)
    first = analysis.table.iloc[0]
    paper = PAPER if first["model.depth"] == PAPER_DEPTH else ()
    title = f"Figure 1: BN-ResNetV2-{first['model.depth']} at initialisation, scale {analysis.scale}"
    note = method(analysis.table, curves) + unfinished(analysis.table)
    table = write_markdown(analysis.output, title, stage_ends(curves, paper), note)
    print(table.read_text())
    return [table, *save_figure(draw_propagation(curves, title, note, paper), analysis.output)]


def label(row: pd.Series) -> str:
    return LABELS[str(row["model.order"])]


def method(table: pd.DataFrame, curves: Mapping[str, pd.DataFrame]) -> str:
    """What was measured how often."""
    first = table.iloc[0]
    return (
        f"N(0, 1) input, {first['pixels']} px, batch {first['batch']}, {first['precision']}; "
        f"line: mean of n = {seeds_drawn(curves)} initialisations, band: their range."
    )


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
