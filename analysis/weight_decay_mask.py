"""Top-1 with weight decay on weights only, or also on gains, biases and SkipInit scalars (claim C37)."""

from nfrepro.plots.comparison import Comparison, named, number
from nfrepro.plots.script import compared, run_script

EXPERIMENT = "weight_decay_mask"
COMPARISON = Comparison(
    title="NF-ResNets by what decays, and how fast",
    axis=number("weight decay", "train.weight_decay"),
    line=named("decay of", "train.decay_norm_and_bias", {False: "weights only", True: "all parameters"}),
    remark="The authors' decay is on weights only, at 1e-4.",
)

if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", compared(COMPARISON))
