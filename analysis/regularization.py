"""Top-1 of BN and NF with and without stochastic depth and dropout; learning curves (claim C24)."""

from nfrepro.plots.comparison import Comparison
from nfrepro.plots.factors import DEPTH, METHOD, REGULARIZATION
from nfrepro.plots.script import compared, run_script

EXPERIMENT = "regularization"
COMPARISON = Comparison(
    title="Explicit regularisation, with BatchNorm and without",
    axis=REGULARIZATION,
    line=METHOD,
    panel=DEPTH,
    remark="Regularised: stochastic depth, and dropout at a rate chosen here, since the paper's is unknown.",
)

if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", compared(COMPARISON, learning_curves=True))
