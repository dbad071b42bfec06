"""Properties of networks without normalization: independence of images, folding, identity blocks, cost."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nfrepro.plots.paper_values import NF_REGNETS
from nfrepro.plots.script import Analysis, run_script, write_markdown

EXPERIMENT = "network_properties"
PAPER_MULTIPLY_ADDS = {variant: cost for variant, (cost, _) in NF_REGNETS.items()}
LARGEST = {
    "other images in the batch": "batch_dependence",
    "training - evaluation": "train_test_gap",
    "folded - unfolded": "folding_error",
    "block - identity": "identity_error",
}


def analyse(analysis: Analysis) -> Sequence[Path]:
    """A table with a row for each network: the largest difference over seeds."""
    names = [name(row) for _, row in analysis.table.iterrows()]
    rows = []
    for network, runs in analysis.table.groupby(names, sort=False):
        done = runs[runs["state"] == "completed"]
        first = done.iloc[0] if len(done) else pd.Series(dtype=float)
        paper = PAPER_MULTIPLY_ADDS.get(str(first.get("model.variant")))
        rows.append(
            {"network": str(network)}
            | {title: largest(done, column) for title, column in LARGEST.items()}
            | {
                "multiply-adds (1e9)": f"{first['multiply_adds']:.3f}" if len(done) else "",
                "at pixels": f"{first['multiply_adds_pixels']:g}" if len(done) else "",
                "paper's figure 3": "" if paper is None else f"{paper:g}",
                "n": str(len(done)),
                "not completed": str(len(runs) - len(done)),
            }
        )
    note = (
        "Largest over n seeds, relative to the largest logit (blocks: absolute, at initialisation); float32. Empty: "
        "the network has no such thing. NF-RegNets without dropout and stochastic depth, which alone tell training "
        "from evaluation."
    )
    path = write_markdown(analysis.output, f"Properties of networks, scale {analysis.scale}", rows, note)
    print(path.read_text())
    return [path]


def name(row: pd.Series) -> str:
    variant = row.get("model.variant")
    return (
        f"{row['model.name']}_{variant}" if isinstance(variant, str) else f"{row['model.name']}{row['model.depth']:g}"
    )


def largest(runs: pd.DataFrame, column: str) -> str:
    values = runs[column].dropna() if column in runs else pd.Series(dtype=float)
    return f"{values.max():.1e}" if len(values) else ""


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
