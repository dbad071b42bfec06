"""Top-1 of NF-ResNets by activation, with and without its gamma (claim C47)."""

from nfrepro.plots.comparison import Comparison, named
from nfrepro.plots.script import compared, run_script

EXPERIMENT = "activations"
ACTIVATIONS = {"relu": "ReLU", "silu": "SiLU", "gelu": "GELU", "tanh": "tanh", "sigmoid": "sigmoid"}
COMPARISON = Comparison(
    title="NF-ResNets by activation, with its gamma and without",
    axis=named("activation", "model.activation", ACTIVATIONS),
    line=named("gamma", "model.gamma", {"published": "published", "none": "none"}),
    remark="Gamma makes an activation preserve variance; published: the authors' constants.",
)

if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", compared(COMPARISON))
