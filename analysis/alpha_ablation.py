"""Top-1 accuracy against the residual scale alpha: table and figure, from runs.csv (claim C35)."""

from dataclasses import replace

import pandas as pd

from nfrepro.plots.comparison import Comparison, number
from nfrepro.plots.script import compared, run_script

EXPERIMENT = "alpha_ablation"
COMPARISON = Comparison(
    title="Residual scale alpha",
    axis=number("alpha", "model.alpha"),
    marked=(0.2, "the paper's alpha, 0.2"),
)
RATE = number("learning rate", "train.lr_per_256")


def comparison(table: pd.DataFrame) -> Comparison:
    """The comparison, with a panel for each learning rate if there are several."""
    several = "train.lr_per_256" in table and table["train.lr_per_256"].nunique() > 1
    return replace(COMPARISON, panel=RATE) if several else COMPARISON


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", compared(comparison))
