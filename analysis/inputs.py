"""Signal propagation of noise and photographs, a figure for each image size (claim C06)."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nfrepro.plots.propagation_figure import draw_propagation
from nfrepro.plots.propagation_table import stage_ends
from nfrepro.plots.script import Analysis, run_script, write_markdown
from nfrepro.plots.style import save_figure
from nfrepro.runs.propagation_curves import check_some, read_curves, seeds_drawn, unfinished

EXPERIMENT = "inputs"
NETWORKS = {"bn_relu_conv": "BN-ReLU-Conv", "relu_bn_conv": "ReLU-BN-Conv"}


def analyse(analysis: Analysis) -> Sequence[Path]:
    """One table of the values at the ends of the stages, and a figure for each size of the images."""
    table = analysis.table
    by_size = {str(pixels): read_curves(runs, analysis.runs, label) for pixels, runs in table.groupby("pixels")}
    drawn = {f"{pixels} {name}": rows for pixels, curves in by_size.items() for name, rows in curves.items()}
    check_some(drawn, table, analysis.experiment)
    note = (
        f"{photographs(table)} and N(0, 1) noise, {table.iloc[0]['precision']}; line: mean of n = {seeds_drawn(drawn)} "
        f"initialisations, band: their range.{unfinished(table)}"
    )
    networks = f"ResNets of {table.iloc[0]['model.depth']} layers"
    written, rows = [], []
    for pixels, curves in by_size.items():
        if not curves:
            continue
        title = f"Noise and photographs, {pixels} px: {networks}, scale {analysis.scale}"
        rows += [{"pixels": pixels} | row for row in stage_ends(curves)]
        path = analysis.output.with_name(f"{analysis.output.name}_{pixels}")
        written += save_figure(draw_propagation(curves, title, note, logarithmic=True), path)
    written.append(write_markdown(analysis.output, "Signal propagation of noise and of photographs", rows, note))
    print(written[-1].read_text())
    return written


def photographs(table: pd.DataFrame) -> str:
    """The copy of the data set with the photographs; only the name of the data set if runs did not record the copy."""
    own = table[table["data.name"] != "gaussian"]
    return str(next(iter([*own.get("provenance.data", own["data.name"]).dropna(), *own["data.name"]]), "photographs"))


def label(row: pd.Series) -> str:
    network = "NF" if row["model.name"] == "nf_resnet" else NETWORKS[str(row["model.order"])]
    return f"{network}, {'noise' if row['data.name'] == 'gaussian' else 'photographs'}"


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
