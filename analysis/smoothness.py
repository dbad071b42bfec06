"""Smoothness of the loss along its gradient during training, and its surface on a random plane (claims W11 to W15)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from nfrepro.errors import InputError
from nfrepro.plots.comparison_table import over_runs
from nfrepro.plots.run_counts import count_runs
from nfrepro.plots.script import Analysis, run_script, write_markdown
from nfrepro.plots.smoothness_figure import draw_smoothness
from nfrepro.plots.style import NOTE_SIZE, entitle, fill_note, new_figure, save_figure
from nfrepro.runs.propagation_curves import read_curves, seeds_drawn, unfinished

EXPERIMENT = "smoothness"
COLOURS = "viridis"
# Colours range from the smallest to the largest loss of all surfaces, within these multiples of the smallest.
LARGEST_RATIO, SMALLEST_RATIO = 30.0, 1.1
COLOUR_LEVELS = 24
# Losses at which contours are drawn and labelled.
CONTOURS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 5.0, 10.0, 20.0, 50.0)
TICKS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
NETWORKS = {
    ("bn_resnet", None): "BN",
    ("nf_resnet", "scaled_ws"): "NF, Scaled WS",
    ("nf_resnet", "he"): "NF without WS",
    ("unnormalized_resnet", None): "unnormalized",
}
# Column of runs.csv -> heading.
LOGARITHMS = {
    "log10_loss_range": "range of the loss",
    "log10_gradient_change": "change of the gradient",
    "log10_beta": "beta",
    "log10_relative_loss_range": "range (relative steps)",
    "log10_relative_gradient_change": "change (relative)",
    "log10_relative_beta": "beta (relative)",
}


def analyse(analysis: Analysis) -> Sequence[Path]:
    """The table, the bands over training, and the surfaces of one seed."""
    table, folder = analysis.table, analysis.runs
    done = table[table["state"] == "completed"]
    if done.empty:
        raise InputError(f"{analysis.experiment}: no run is completed:{unfinished(table)}")
    first = done.iloc[0]
    about = f"{first['provenance.data']}, blocks {first['model.blocks']}, scale {analysis.scale}"
    written = write_markdown(analysis.output, f"Smoothness of the loss: {about}", rows(table), note(first))
    print(written.read_text())
    curves = read_curves(table, folder, network, "smoothness.csv")
    title = f"Smoothness of the loss along its gradient: {about}"
    figure = draw_smoothness(curves, title, method(table, curves, first))
    of_seed = table[table["seed"] == seed_of_all(done)]
    surfaces = read_curves(of_seed, folder, network, "landscape.csv")
    return [
        written,
        *save_figure(figure, analysis.output),
        *save_figure(
            draw_landscapes(surfaces, f"The loss around trained weights: {about}", plane(first, of_seed)),
            analysis.output.with_name(f"{analysis.output.name}_landscape"),
        ),
    ]


def network(row: pd.Series) -> str:
    name, convolution = str(row["model.name"]), row.get("model.convolution")
    key = name, convolution if isinstance(convolution, str) else None
    return NETWORKS.get(key, " ".join(filter(None, key)))


def rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """A row for each network: top-1 and log10 of each measurement, with intervals."""
    found = []
    for label, runs in table.groupby([network(row) for _, row in table.iterrows()], sort=False):
        done, counts = runs[runs["state"] == "completed"], count_runs(runs["state"])
        found.append(
            {"network": str(label), "test top-1 (%)": over_runs(done, "top1", 1)}
            | {heading: over_runs(done, column, 2) for column, heading in LOGARITHMS.items()}
            | {"rise on the plane": over_runs(done, "landscape_rise", 2)}
            | {"n": str(counts.completed), "diverged": str(counts.diverged)}
            | counts.without_result()
        )
    return found


def seed_of_all(done: pd.DataFrame) -> int:
    """The first of the seeds that the most networks have completed."""
    return int(str(done["seed"].value_counts().sort_index().idxmax()))


def method(table: pd.DataFrame, curves: Mapping[str, pd.DataFrame], first: pd.Series) -> str:
    lengths, shares = first["smoothness.step_lengths"], first["smoothness.relative_lengths"]
    return (
        f"Loss of {first['smoothness.images']} training images that stay the same. Steps downhill of {lengths} peak "
        f"learning rates above, of {shares} of the norm of all weights below. Band: from the smallest to the largest "
        "over these steps; line: of the loss that at the weights themselves, of the others the largest; geometric "
        f"means over {seeds_drawn(curves)} seeds.{unfinished(table)}"
    )


def plane(first: pd.Series, of_seed: pd.DataFrame) -> str:
    """The note on the surfaces; `of_seed` has the runs of their seed."""
    return (
        f"Seed {of_seed['seed'].iloc[0]}, {first['landscape.images']} training images, BatchNorm with the statistics "
        "of the batch; random directions, 1 moves each filter by its own norm. Colours and contours are the same in "
        f"all pictures.{unfinished(of_seed)}"
    )


def note(first: pd.Series) -> str:
    lengths, shares = first["smoothness.step_lengths"], first["smoothness.relative_lengths"]
    return (
        "Mean ± half width of the 95 % Student t interval over n seeds. Smoothness: log10 of the median over training "
        f"steps {first['smoothness.steps']}; 0.3 is a factor of 2, less is smoother. Range of the loss, largest change "
        f"of the gradient and effective beta-smoothness over steps of {lengths} peak learning rates. Relative: over "
        f"steps of {shares} of the norm of all weights; change over the norm of the gradient, beta times the squared "
        "norm of the weights. Rise: median of the loss on the random plane minus that at the weights."
    )


def draw_landscapes(surfaces: Mapping[str, pd.DataFrame], title: str, note: str) -> Figure:
    """A panel for each label, with its rows of landscape.csv in `surfaces`. A cross marks the trained weights."""
    figure = new_figure(2.6)
    panels = figure.subplots(1, len(surfaces), sharex=True, sharey=True, squeeze=False)[0]
    grids = {label: _grid(rows) for label, rows in surfaces.items()}
    norm = _scale(list(grids.values()))
    for axes, (label, grid) in zip(panels, grids.items(), strict=True):
        _draw(axes, grid, norm)
        middle = grid.to_numpy(float)[len(grid) // 2, len(grid) // 2]
        axes.set_title(f"{label}\nloss {middle:.2f} in the middle", fontsize=7)
        axes.set_xlabel("second direction")
    panels[0].set_ylabel("first direction")
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=list(panels), extend="max", label="loss", pad=0.01)
    bar.set_ticks(_within(TICKS, norm), labels=[f"{tick:g}" for tick in _within(TICKS, norm)])
    bar.minorticks_off()
    entitle(figure, title)
    figure.supxlabel(fill_note(note), fontsize=NOTE_SIZE)
    return figure


def _grid(rows: pd.DataFrame) -> pd.DataFrame:
    """Losses by coordinate along the first direction (rows) and the second (columns)."""
    return rows.pivot(index="first", columns="second", values="loss")


def _scale(grids: list[pd.DataFrame]) -> LogNorm:
    losses = np.concatenate([grid.to_numpy().ravel() for grid in grids])
    losses = losses[np.isfinite(losses) & (losses > 0)]
    least = float(losses.min())
    return LogNorm(least, float(np.clip(losses.max(), SMALLEST_RATIO * least, LARGEST_RATIO * least)))


def _within(levels: Sequence[float], norm: LogNorm) -> list[float]:
    assert norm.vmin is not None
    assert norm.vmax is not None
    return [level for level in levels if norm.vmin < level < norm.vmax]


def _draw(axes: Axes, grid: pd.DataFrame, norm: LogNorm) -> None:
    assert norm.vmin is not None
    assert norm.vmax is not None
    x, y = grid.columns.to_numpy(float), grid.index.to_numpy(float)
    losses = np.nan_to_num(grid.to_numpy(float), nan=np.inf).clip(norm.vmin, 1e3 * norm.vmax)
    levels = np.geomspace(norm.vmin, norm.vmax, COLOUR_LEVELS)
    axes.contourf(x, y, losses, levels=levels, norm=norm, cmap=COLOURS, extend="max")
    if contours := _within(CONTOURS, norm):
        lines = axes.contour(x, y, losses, levels=contours, colors="white", linewidths=0.6)
        for label in axes.clabel(lines, fmt="%g", fontsize=6):
            label.set_path_effects([withStroke(linewidth=1.2, foreground="black")])  # legible on bright colours, too
    axes.plot(0.0, 0.0, "+", color="white", markersize=7, path_effects=[withStroke(linewidth=3.0, foreground="black")])
    axes.set_aspect("equal")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.grid(False)


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
