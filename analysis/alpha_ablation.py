"""Top-1 accuracy against the residual scale alpha: table and figure, from runs.csv (claim C35)."""

from nfrepro.plots.comparison import Comparison, number
from nfrepro.plots.script import compared, run_script

EXPERIMENT = "alpha_ablation"
COMPARISON = Comparison(
    title="Residual scale alpha",
    axis=number("alpha", "model.alpha"),
    marked=(0.2, "the paper's alpha, 0.2"),
)

if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", compared(COMPARISON))
