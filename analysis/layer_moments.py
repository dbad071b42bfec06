"""Mean and variance of one layer's outputs: Monte Carlo against the paper's closed forms (sections 4.1, 4.2)."""

from collections.abc import Sequence
from pathlib import Path

from nfrepro.plots.comparison_table import over_runs
from nfrepro.plots.script import Analysis, run_script, write_markdown

EXPERIMENT = "layer_moments"
NUMBERS = {
    "squared mean": "mean_squared_mean",
    "expected squared mean": "expected_mean_squared_mean",
    "variance": "mean_variance",
    "expected variance": "expected_mean_variance",
    "error of the means": "mean_error",
    "error of the variance": "variance_error",
}


def analyse(analysis: Analysis) -> Sequence[Path]:
    """A table with a row for each kind of weights, mean of the weights, and activation."""
    rows = []
    axes = ["weights", "weight_mean", "activation"]
    for (weights, mean, activation), runs in analysis.table.groupby(axes, sort=False):
        done = runs[runs["state"] == "completed"]
        shown = {name: over_runs(done, column, 4) for name, column in NUMBERS.items() if len(done)}
        rows.append(
            {"weights": str(weights), "mean of weights": f"{mean:g}", "activation": str(activation)}
            | {name: shown.get(name, "") for name in NUMBERS}
            | {"n": str(len(done)), "not completed": str(len(runs) - len(done))}
        )
    first = analysis.table.iloc[0]
    note = (
        f"Averages over {first['fan_out']} outputs of {first['fan_in']} inputs, {first['samples']:,} vectors "
        "x ~ N(0, 1); 95 % Student t interval over n seeds. The error of the means is in units of the outputs' "
        "standard deviation, that of the variance is relative."
    )
    path = write_markdown(analysis.output, f"Moments of one layer, scale {analysis.scale}", rows, note)
    print(path.read_text())
    return [path]


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
