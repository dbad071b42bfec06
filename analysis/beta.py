"""Top-1 with the divisor beta reset at transition blocks, never reset, or off, by alpha."""

from nfrepro.plots.comparison import Comparison, named, number
from nfrepro.plots.script import compared, run_script

EXPERIMENT = "beta"
NAMES = {"ledger": "reset", "no_reset": "no reset", "off": "off"}
COMPARISON = Comparison(
    title="NF-ResNets by divisor beta and residual scale alpha",
    axis=number("alpha", "model.alpha"),
    line=named("beta", "model.beta", NAMES),
    remark="Reset: to 1 after every transition block, as in the paper. Off: beta is 1 everywhere.",
)

if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", compared(COMPARISON))
