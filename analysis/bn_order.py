"""Top-1 by the order of BatchNorm, activation and convolution, and without normalization (claim C43)."""

import pandas as pd

from nfrepro.plots.comparison import Comparison, Factor
from nfrepro.plots.script import compared, run_script

EXPERIMENT = "bn_order"
ORDERS = {"bn_relu_conv": "BN-ReLU-Conv", "relu_bn_conv": "ReLU-BN-Conv", "v1": "Conv-BN-ReLU (version 1)"}


def order(row: pd.Series) -> str:
    """The order of layers in a block; `NF` for a network without BatchNorm."""
    return "NF" if pd.isna(row["model.order"]) else ORDERS.get(row["model.order"], str(row["model.order"]))


COMPARISON = Comparison(
    title="The order of BatchNorm, activation and convolution",
    axis=Factor("block", ("model.name", "model.order"), order, (*ORDERS.values(), "NF")),
    remark="The paper's baseline is BN-ReLU-Conv, while its NF-ResNets imitate ReLU-BN-Conv (the authors' code).",
)

if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", compared(COMPARISON))
