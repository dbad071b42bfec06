"""All known numbers from the paper and its follow-up: where each is printed, and how it is known.

"The paper" is arXiv 2101.08692, "the follow-up" arXiv 2102.06171. Most of the paper's tables are unknown: missing
numbers are blank in tables and absent from figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

# verbatim: seen in print; read off: digitised from a figure; second hand: quoted by others.
Trust = Literal["verbatim", "read off", "second hand"]

# The level of a factor: text, or a number that belongs on an axis.
Level = str | float


@dataclass(frozen=True)
class PaperValue:
    """One number of a paper."""

    value: float
    trust: Trust
    fails: bool = False  # training failed: the result is below `value`

    def __str__(self) -> str:
        return f"{'fails, below ' if self.fails else ''}{self.value:g} ({self.trust})"


@dataclass(frozen=True)
class Reference:
    """Numbers of one paper under one setting: a column of the table, and a panel of the figure if `panel` is set.

    `values` has the key of an arm (`comparison.Arm`) for each number.
    """

    heading: str
    source: str
    values: Mapping[tuple[Level, ...], PaperValue]
    panel: str = ""


@dataclass(frozen=True)
class PaperCurve:
    """Values along a curve of the paper's signal propagation plots."""

    label: str  # the network
    statistic: str
    blocks: Sequence[int]  # after which the values were measured
    values: Sequence[float]


# Figure 1: ResNetV2-600 at the ends of its stages; read off, error 0.3 in the first two statistics, 0.005 in the third.
FIGURE_1_DEPTH = 600
_STAGE_ENDS = (50, 100, 150, 200)
FIGURE_1 = (
    PaperCurve("BN-ReLU-Conv", "avg_sq_mean", _STAGE_ENDS, (13.7, 14.6, 16.8, 17.2)),
    PaperCurve("ReLU-BN-Conv", "avg_sq_mean", _STAGE_ENDS, (0.0, 0.0, 0.0, 0.0)),
    PaperCurve("BN-ReLU-Conv", "avg_var", (200,), (35.1,)),
    PaperCurve("ReLU-BN-Conv", "avg_var", _STAGE_ENDS, (50.9, 50.9, 51.2, 51.2)),
    PaperCurve("BN-ReLU-Conv", "res_var", _STAGE_ENDS, (0.692, 0.678, 0.683, 0.685)),
    PaperCurve("ReLU-BN-Conv", "res_var", _STAGE_ENDS, (1.007, 0.995, 0.997, 1.001)),
)

# No number of figure 2 is known.

# Figure 3, NF-RegNets: multiply-adds (1e9; read off, error 0.03) and top-1 on ImageNet (read off, error 0.05).
NF_REGNETS: Mapping[str, tuple[float, float]] = {
    "b0": (0.44, 76.96),
    "b1": (0.74, 78.7),
    "b2": (1.09, 79.95),
    "b3": (1.99, 81.24),
    "b4": (4.44, 82.49),
    "b5": (10.48, 82.98),
}

# Figure 3, EfficientNets with AutoAugment or RandAugment: multiply-adds (1e9) and top-1; printed in the follow-up,
# except B1 and B2, which are read off.
EFFICIENTNETS: Mapping[str, tuple[float, float, Trust]] = {
    "b0": (0.39, 77.1, "verbatim"),
    "b1": (0.7, 79.1, "read off"),
    "b2": (1.0, 80.1, "read off"),
    "b3": (1.8, 81.6, "verbatim"),
    "b4": (4.2, 82.9, "verbatim"),
    "b5": (9.9, 83.7, "verbatim"),
}

# Table 1, by regularisation, depth and method: only one of its numbers is known, and its column is inferred.
TABLE_1: Mapping[tuple[Level, ...], PaperValue] = {("regularised", 288, "NF"): PaperValue(79.5, "second hand")}

# Table 2, by batch size and method: the depth and the number of epochs are not known.
TABLE_2: Mapping[tuple[Level, ...], PaperValue] = {
    (4, "NF"): PaperValue(69.9, "second hand"),
    (4, "BN"): PaperValue(55.7, "second hand"),
}

# Section 5, NF-ResNet-288 without regularisation: peak learning rate -> numbers of collapsed and of all runs; second
# hand.
COLLAPSES: Mapping[float, tuple[int, int]] = {0.2: (0, 5), 0.4: (2, 5)}

# Section 5: points of top-1 that an EfficientNet, with its depthwise convolutions, loses without BatchNorm; second
# hand.
DEPTHWISE_LOSS = 3.2

# The follow-up's figure 2 (a), by depth and method, at these batch sizes; read off, error 0.1. Without clipping NF
# fails at the largest.
FOLLOW_UP_BATCHES = (256, 512, 1024, 2048, 4096)
CLIPPED = "NF + AGC"
FOLLOW_UP: Mapping[int, Mapping[str, Sequence[float]]] = {
    50: {
        "BN": (76.9, 76.8, 76.4, 76.8, 76.8),
        "NF": (76.6, 76.7, 76.9, 76.9),
        CLIPPED: (76.8, 76.95, 76.96, 76.9, 76.7),
    },
    200: {
        "BN": (78.7, 79.0, 78.9, 79.0, 78.9),
        "NF": (79.3, 79.5, 79.5, 79.6),
        CLIPPED: (79.2, 79.4, 79.6, 79.5, 79.15),
    },
}
FOLLOW_UP_FAILS = PaperValue(70, "read off", fails=True)
