"""The gain gamma of every activation: exact by quadrature, sampled as in the paper's appendix D, and published."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nfrepro.plots.script import Analysis, run_script, write_markdown
from nfrepro.stats.intervals import mean_interval

EXPERIMENT = "gains"


def analyse(analysis: Analysis) -> Sequence[Path]:
    """One table, without a figure."""
    rows = [row(str(name), runs) for name, runs in analysis.table.groupby("activation", sort=False)]
    first = analysis.table.iloc[0]
    note = (
        f"Sampled: mean and 95 % Student t interval over n seeds, each of {first['vectors']} vectors of "
        f"{first['length']} numbers. glu and log_softmax mix channels: they have a gain, "
        "but no mean and variance of one number."
    )
    path = write_markdown(analysis.output, f"Gains of activations, scale {analysis.scale}", rows, note)
    print(path.read_text())
    return [path]


def row(name: str, runs: pd.DataFrame) -> dict[str, str]:
    """The row of one activation; cells are empty if no run is completed."""
    done = runs[runs["state"] == "completed"]
    sampled = mean_interval(done["gamma_sampled"].tolist() if len(done) else [])
    exact = done.iloc[0] if len(done) else pd.Series(dtype=float)
    return {
        "activation": name,
        "mean": number(exact.get("mean")),
        "variance": number(exact.get("variance")),
        "gamma": number(exact.get("gamma")),
        "sampled": sampled.text(4),
        "n": str(sampled.n),
        "published": number(exact.get("gamma_published")),
        "published is off by": ""
        if exact.get("published_error") is None
        else f"{100 * exact['published_error']:z.3f} %",
    }


def number(value: float | None) -> str:
    return "" if value is None or pd.isna(value) else f"{value:z.6f}"


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
