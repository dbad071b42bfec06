"""Top-1 with Scaled Weight Standardization, plain Weight Standardization, or none, by depth (claim C45)."""

from nfrepro.plots.comparison import Comparison, named
from nfrepro.plots.factors import DEPTH
from nfrepro.plots.script import compared, run_script

EXPERIMENT = "weight_standardization"
NAMES = {"scaled_ws": "Scaled WS", "ws": "plain WS", "he": "none, He init"}
COMPARISON = Comparison(
    title="NF-ResNets by weight standardization and depth",
    axis=DEPTH,
    line=named("weights", "model.convolution", NAMES),
    remark="Plain WS: without the factors 1 / sqrt(N) and gamma.",
)

if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", compared(COMPARISON))
