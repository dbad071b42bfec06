"""Signal propagation of noise and of photographs, a picture for each size of the images (claim C06)."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nfrepro.errors import InputError
from nfrepro.plots.propagation_figure import draw_propagation
from nfrepro.plots.propagation_table import stage_ends
from nfrepro.plots.script import Analysis, run_script, write_markdown
from nfrepro.plots.style import save_figure
from nfrepro.runs.propagation_curves import read_curves, unfinished

EXPERIMENT = "inputs"
NETWORKS = {"bn_relu_conv": "BN-ReLU-Conv", "relu_bn_conv": "ReLU-BN-Conv"}


def analyse(analysis: Analysis) -> Sequence[Path]:
    """One table of the values at the ends of the stages, and a figure for each size of the images."""
    table = analysis.table
    done = table[table["state"] == "completed"]
    if done.empty:
        raise InputError(f"{analysis.experiment}: no run is completed:{unfinished(table)}")
    photographs = done.loc[done["data.name"] != "gaussian", "provenance.data"]
    data = str(photographs.iloc[0]) if len(photographs) else "photographs"
    written, rows = [], []
    note = (
        f"{data} and N(0, 1) noise, {done.iloc[0]['precision']}; line: mean of n = {table['seed'].nunique()} "
        f"initialisations, band: their range.{unfinished(table)}"
    )
    for pixels, runs in table.groupby("pixels"):
        curves = read_curves(runs, analysis.runs, label)
        title = f"Noise and photographs, {pixels} px: ResNets of {runs.iloc[0]['model.depth']} layers, {analysis.scale}"
        rows += [{"pixels": str(pixels)} | row for row in stage_ends(curves)]
        path = analysis.output.with_name(f"{analysis.output.name}_{pixels}")
        written += save_figure(draw_propagation(curves, title, note, logarithmic=True), path)
    written.append(write_markdown(analysis.output, "Signal propagation of noise and of photographs", rows, note))
    print(written[-1].read_text())
    return written


def label(row: pd.Series) -> str:
    network = "NF" if row["model.name"] == "nf_resnet" else NETWORKS[str(row["model.order"])]
    return f"{network}, {'noise' if row['data.name'] == 'gaussian' else 'photographs'}"


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
