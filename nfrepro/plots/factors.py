"""The factors that several training experiments vary."""

import pandas as pd

from nfrepro.plots.comparison import Factor, named, number

METHODS = {
    "bn_resnet": "BN",
    "nf_resnet": "NF",
    "skipinit_resnet": "SkipInit",
    "fixup_resnet": "FixUp",
    "gn_ws_resnet": "GN + WS",
    "bn_regnet": "BN",
    "nf_regnet": "NF",
    "efficientnet": "EfficientNet",
}
METHOD = named("method", "model.name", METHODS)
# The depth of small networks follows from their numbers of blocks; large batches are divided to save memory.
DEPTH = number("depth", "model.depth", scale="linear", also=("model.blocks",))
BATCH_SIZE = number("batch size", "train.batch_size", also=("train.grad_accum_steps",))


def _regularized(row: pd.Series) -> str:
    return "regularised" if row["model.stochastic_depth"] > 0 or row["model.dropout"] > 0 else "plain"


REGULARIZATION = Factor(
    "regularisation", ("model.stochastic_depth", "model.dropout"), _regularized, ("plain", "regularised")
)
