"""Top-1 by augmentation, with and without adaptive gradient clipping, and with several copies (claims C33, C34)."""

from dataclasses import replace

import pandas as pd

from nfrepro.plots.comparison import Comparison, Factor, named
from nfrepro.plots.script import compared, run_script

EXPERIMENT = "augmentation"
MIXING = {"mixup": "MixUp", "cutmix": "CutMix", "mixup_cutmix": "MixUp + CutMix"}


def augmentation(row: pd.Series) -> str:
    """The name of the augmentation on top of crop and flip."""
    parts = [MIXING[row["data.mixing"]]] if row["data.mixing"] in MIXING else []
    if row["data.randaugment_layers"] > 0:
        parts.append(f"RandAugment {row['data.randaugment_layers']:g}/{row['data.randaugment_magnitude']:g}")
    if row["data.copies"] > 1:
        parts.append(f"{row['data.copies']:g} copies")
    return ", ".join(parts) or "none"


def clipping(row: pd.Series) -> str:
    """The clipping of an NF-ResNet; `BN` for the control, a network with BatchNorm, which has none."""
    if row["model.name"] == "bn_resnet":
        return "BN"
    return "no clipping" if pd.isna(row["train.clip_factor"]) else f"AGC {row['train.clip_factor']:g}"


COLUMNS = ("data.mixing", "data.randaugment_layers", "data.randaugment_magnitude", "data.copies")
COMPARISON = Comparison(
    title="NF-ResNets by augmentation, with and without gradient clipping",
    axis=Factor("augmentation besides crop and flip", COLUMNS, augmentation, ("none", *MIXING.values())),
    line=named("clipping", "train.clip_factor", {None: "no clipping", 0.01: "AGC 0.01"}),
    remark="AGC: adaptive gradient clipping with factor 0.01. RandAugment: layers/magnitude. Copies: the number "
    "of differently augmented copies of an image in a batch.",
)

BESIDE_BN = "NF-ResNets and BN-ResNets by augmentation and gradient clipping"
WITH_CONTROL = Factor("clipping", ("model.name", "train.clip_factor"), clipping, ("no clipping", "AGC 0.01", "BN"))


def comparison(table: pd.DataFrame) -> Comparison:
    """The comparison, with a line for networks with BatchNorm if there are any."""
    several = table["model.name"].nunique() > 1
    return replace(COMPARISON, title=BESIDE_BN, line=WITH_CONTROL) if several else COMPARISON


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", compared(comparison))
