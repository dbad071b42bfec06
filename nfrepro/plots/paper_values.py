"""Numbers that a paper reports, beside ours: each says how it is known. What is not known is not here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# verbatim: seen in print; read off: digitised from a figure; second hand: quoted by others.
Trust = Literal["verbatim", "read off", "second hand"]

# What an arm has of a factor: text, or a number that belongs on an axis.
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
    """Numbers of one paper under one setting: a column of the table, and a panel of the figure where `panel` names one.

    `values` are by the key of an arm (`comparison.Arm`).
    """

    heading: str
    source: str
    values: Mapping[tuple[Level, ...], PaperValue]
    panel: str = ""


# NF-RegNets of figure 3: multiply-adds (1e9; digitised, error 0.03) and top-1 on ImageNet (digitised, error 0.05).
NF_REGNETS: Mapping[str, tuple[float, float]] = {
    "b0": (0.44, 76.96),
    "b1": (0.74, 78.7),
    "b2": (1.09, 79.95),
    "b3": (1.99, 81.24),
    "b4": (4.44, 82.49),
    "b5": (10.48, 82.98),
}
