"""Figure 2 of the paper: signal propagation without normalization, and in ReLU-BN-Conv."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from nfrepro.plots.propagation_figure import draw_propagation
from nfrepro.plots.propagation_table import stage_ends
from nfrepro.plots.script import Analysis, run_script, write_markdown
from nfrepro.plots.style import save_figure
from nfrepro.runs.propagation_curves import read_curves, seeds_drawn, unfinished

EXPERIMENT = "figure_2"


def analyse(analysis: Analysis) -> Sequence[Path]:
    """Draws the figure; writes the values at the ends of the stages. The paper's own values are not known."""
    curves = read_curves(analysis.table, analysis.runs, label)
    first = analysis.table.iloc[0]
    title = f"Figure 2: ResNetV2-{first['model.depth']} at initialisation, alpha 1, scale {analysis.scale}"
    note = method(analysis.table, curves) + unfinished(analysis.table)
    table = write_markdown(
        analysis.output, title, stage_ends(curves), f"{note} No number of the paper's figure 2 is known."
    )
    print(table.read_text())
    return [table, *save_figure(draw_propagation(curves, title, note), analysis.output)]


def label(row: pd.Series) -> str:
    """The name of a network: BN is the reference; NF networks differ in convolutions and in having a ReLU."""
    if row["model.name"] == "bn_resnet":
        return "ReLU-BN-Conv"
    if row["model.convolution"] == "scaled_ws":
        return "NF, Scaled WS"
    if row["model.activation"] == "relu":
        return "NF, He init"
    return "NF, He init, no ReLU" + ("" if row["model.stem"] == "imagenet" else ", no max pool")


def method(table: pd.DataFrame, curves: Mapping[str, pd.DataFrame]) -> str:
    """The input and the number of initialisations, as a note."""
    first = table.iloc[0]
    return (
        f"N(0, 1) input, {first['pixels']} px, batch {first['batch']}, {first['precision']}; "
        f"line: mean of n = {seeds_drawn(curves)} initialisations, band: their range."
    )


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
