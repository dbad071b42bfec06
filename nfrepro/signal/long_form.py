"""Measured and predicted statistics side by side, one row per number: the form that is stored and plotted."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

STATISTICS = ("avg_sq_mean", "avg_var", "res_var")
WHERE = ["block", "stage", "transition"]


def long_form(measured: "pd.DataFrame", predicted: "pd.DataFrame | None", network: str, seed: int) -> "pd.DataFrame":
    """A table of network, seed, block, stage, transition, statistic, measured, predicted (NaN without a prediction).

    Statistics of `measured` beyond the paper's three (such as input_correlation) are kept, too, without prediction.
    Raises `ValueError` if the two tables do not have the same blocks.
    """
    import pandas as pd

    if predicted is not None and predicted["block"].tolist() != measured["block"].tolist():
        raise ValueError(f"prediction of {len(predicted)} blocks for {len(measured)} measured ones")
    parts = []
    for statistic in (name for name in measured.columns if name not in WHERE):
        part = measured[WHERE].copy()
        part["statistic"], part["measured"] = statistic, measured[statistic]
        known = predicted is not None and statistic in predicted
        part["predicted"] = predicted[statistic].to_numpy() if known else float("nan")  # type: ignore[index]
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "seed", seed)
    table.insert(0, "network", network)
    return table
