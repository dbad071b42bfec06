"""Top-1 at large batch sizes, with and without adaptive gradient clipping, and figure 2 (a) of the follow-up paper."""

from dataclasses import replace

import pandas as pd

from nfrepro.plots.comparison import Comparison, Factor, number
from nfrepro.plots.factors import BATCH_SIZE, METHODS
from nfrepro.plots.paper_values import (
    CLIPPED,
    FOLLOW_UP,
    FOLLOW_UP_BATCHES,
    FOLLOW_UP_FAILS,
    Level,
    PaperValue,
    Reference,
)
from nfrepro.plots.script import compared, run_script

EXPERIMENT = "large_batch"
# A small batch, the reference for BatchNorm at the large one, may have a different number of epochs.
BUDGET = tuple(
    f"train.{name}" for name in ("grad_accum_steps", "epochs", "warmup_epochs", "lr_per_256", "evaluate_every")
)


def method(row: pd.Series) -> str:
    name = METHODS.get(row["model.name"], str(row["model.name"]))
    return name if pd.isna(row["train.clip_factor"]) else f"{name} + AGC"


def follow_up(depth: int) -> Reference:
    """The follow-up's numbers at one depth; without clipping, NF fails at batch size 4096."""
    known: dict[tuple[Level, ...], PaperValue] = {
        (batch, line): PaperValue(top1, "read off")
        for line, values in FOLLOW_UP[depth].items()
        for batch, top1 in zip(FOLLOW_UP_BATCHES, values, strict=False)
    }
    return Reference(
        heading=f"follow-up, ResNet-{depth} (ImageNet)",
        source="figure 2 (a) of arXiv 2102.06171, 90 epochs, error 0.1; with AGC the best 4 of 5 seeds at the best "
        "threshold for each batch size",
        values={**known, (FOLLOW_UP_BATCHES[-1], "NF"): FOLLOW_UP_FAILS},
        panel=f"ResNet-{depth}, ImageNet\n(follow-up)",
    )


COMPARISON = Comparison(
    title="Top-1 at large batch sizes",
    axis=BATCH_SIZE,
    line=Factor("method", ("model.name", "train.clip_factor"), method, ("BN", "NF", CLIPPED)),
    references=(follow_up(50), follow_up(200)),
    remark="AGC: adaptive gradient clipping, factor 0.01. The learning rate is proportional to the batch size.",
)


def comparison(table: pd.DataFrame) -> Comparison:
    """The comparison, in which the small batch may have a different budget."""
    same = table["train.epochs"].nunique() == 1
    return COMPARISON if same else replace(COMPARISON, axis=number("batch size", "train.batch_size", also=BUDGET))


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", compared(comparison, learning_curves=True))
