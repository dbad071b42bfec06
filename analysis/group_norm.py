"""Top-1 with GroupNorm and Weight Standardization, BatchNorm, and no normalization, at normal and small batch sizes."""

from nfrepro.plots.comparison import Comparison
from nfrepro.plots.factors import BATCH_SIZE, METHOD
from nfrepro.plots.script import compared, run_script

EXPERIMENT = "group_norm"
COMPARISON = Comparison(
    title="GroupNorm with Weight Standardization, BatchNorm, and none",
    axis=BATCH_SIZE,
    line=METHOD,
    remark="The learning rate is proportional to the batch size.",
)

if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", compared(COMPARISON))
