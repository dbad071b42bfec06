"""Signal propagation at the ends of the stages: measured with intervals, predicted, and as in the paper."""

from collections.abc import Mapping, Sequence

import pandas as pd

from nfrepro.plots.paper_values import PaperCurve
from nfrepro.stats.intervals import mean_interval

NAMES = {"avg_sq_mean": "squared mean", "avg_var": "variance", "res_var": "residual variance"}


def stage_ends(curves: Mapping[str, pd.DataFrame], paper: Sequence[PaperCurve] = ()) -> list[dict[str, str]]:
    """Rows of a table: network, statistic, block, measured (95 % t interval over seeds), n, predicted, paper."""
    rows = []
    for label, curve in curves.items():
        for block in sorted(curve.groupby("stage")["block"].max()):
            for statistic, name in NAMES.items():
                at = curve[(curve["block"] == block) & (curve["statistic"] == statistic)]
                interval = mean_interval(at["measured"].tolist())
                predicted = at["predicted"].mean()
                rows.append(
                    {
                        "network": label,
                        "after block": str(block),
                        "statistic": name,
                        "measured": interval.text(3),
                        "n": str(interval.n),
                        "predicted": "" if pd.isna(predicted) else f"{predicted:z.3f}",
                        "paper's figure": _paper(paper, label, statistic, block),
                    }
                )
    return rows


def _paper(paper: Sequence[PaperCurve], label: str, statistic: str, block: int) -> str:
    for values in paper:
        if values.label == label and values.statistic == statistic and block in values.blocks:
            return f"{values.values[list(values.blocks).index(block)]:g}"
    return ""
