"""Top-1 with the SkipInit scalar on top of alpha, by its initial value, or without one (claim C36)."""

from nfrepro.plots.comparison import Comparison, named, number
from nfrepro.plots.factors import DEPTH
from nfrepro.plots.script import compared, run_script

EXPERIMENT = "skipinit_gain"
NAMES = {0.0: "from 0", 1.0: "from 1", None: "none"}
COMPARISON = Comparison(
    title="NF-ResNets by SkipInit scalar, depth and learning rate",
    axis=DEPTH,
    line=named("SkipInit scalar", "model.skipinit_gain", NAMES),
    panel=number("learning rate", "train.lr_per_256"),
    remark="The authors' scalars begin at 0. Learning rates are for 256 images.",
)

if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", compared(COMPARISON))
