"""Signal propagation with beta at the input or the output of the activation, for ReLU and SiLU (claim C47)."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nfrepro.plots.propagation_figure import draw_propagation
from nfrepro.plots.propagation_table import stage_ends
from nfrepro.plots.script import Analysis, run_script, write_markdown
from nfrepro.plots.style import save_figure
from nfrepro.runs.propagation_curves import check_some, read_curves, seeds_drawn, unfinished

EXPERIMENT = "beta_at"
ACTIVATIONS = {"relu": "ReLU", "silu": "SiLU"}


def analyse(analysis: Analysis) -> Sequence[Path]:
    """Draws the figure; writes the values at the ends of the stages."""
    curves = read_curves(analysis.table, analysis.runs, label)
    check_some(curves, analysis.table, analysis.experiment)
    first = analysis.table.iloc[0]
    title = (
        f"Where beta divides: NF-ResNet-{first['model.depth']}, alpha {first['model.alpha']:g}, scale {analysis.scale}"
    )
    note = (
        f"N(0, 1) input, {first['pixels']} px, batch {first['batch']}, {first['precision']}; line: mean of "
        f"n = {seeds_drawn(curves)} initialisations, band: their range.{unfinished(analysis.table)}"
    )
    table = write_markdown(analysis.output, title, stage_ends(curves), note)
    print(table.read_text())
    return [table, *save_figure(draw_propagation(curves, title, note), analysis.output)]


def label(row: pd.Series) -> str:
    """The place of beta: f(x / beta) is the paper's formula, f(x) / beta the code's."""
    activation = ACTIVATIONS.get(str(row["model.activation"]), str(row["model.activation"]))
    return f"{activation}(x / beta)" if row["model.beta_at"] == "input" else f"{activation}(x) / beta"


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
