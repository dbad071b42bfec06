"""Shattered gradients: correlation of gradients by depth and by distance, with fits and the source's formulas.

The source is arXiv 1702.08591. Its formulas are inferred: see claims W02, W04 and W05.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from nfrepro.errors import InputError
from nfrepro.plots.script import Analysis, run_script, write_markdown
from nfrepro.plots.style import LINE_STYLES, MARKERS, PALETTE, entitle, legend_with_note, new_figure, save_figure
from nfrepro.runs.propagation_curves import seeds_drawn, unfinished
from nfrepro.signal import GradientCorrelation, brown_noise, white_noise
from nfrepro.stats.decay import Decay, Law, fit_decay
from nfrepro.stats.intervals import mean_interval

EXPERIMENT = "gradient_correlation"

Numbers = NDArray[np.float64]

LEAST_DRAWN = 0.004  # the smallest correlation on the axis
COLUMNS = 4  # panels in a row
MOST_DEPTHS = 9  # lines in a panel
NOISE_LINES: tuple[dict[str, Any], ...] = (
    {"color": "black", "linestyle": ":", "linewidth": 1.0},
    {"color": "black", "linestyle": "--", "linewidth": 1.0},
)


@dataclass(frozen=True)
class Kind:
    """The runs of one kind of network, as rows of runs.csv, and the style in which they are drawn."""

    label: str
    runs: pd.DataFrame
    color: int  # in the palette, and of the markers, which distinguish kinds in grey
    dashes: int
    hollow: bool = False  # whether its markers are

    @property
    def done(self) -> pd.DataFrame:
        """The completed runs."""
        return self.runs[self.runs["state"] == "completed"]

    @property
    def line(self) -> dict[str, Any]:
        """The style of its line, for matplotlib."""
        style = {"marker": MARKERS[self.color], "linestyle": LINE_STYLES[self.dashes], "markersize": 4}
        return {"color": PALETTE[self.color], **style, "fillstyle": "none" if self.hollow else "full"}


TABLE = "autocorrelation.csv"
NOISE = 0.01  # a correlation up to this is noise, and fits stop before it

# Connection, normalization, alpha -> name.
FULLY_CONNECTED = {
    ("plain", "none", 1.0): "plain",
    ("plain", "batch_norm", 1.0): "plain, BN",
    ("plain", "scaled_ws", 1.0): "plain, Scaled WS",
    ("residual", "none", 1.0): "residual",
    ("residual", "batch_norm", 1.0): "residual, BN",
    ("residual", "scaled_ws", 1.0): "residual, NF",
    ("residual", "batch_norm", 0.2): "residual, BN, alpha 0.2",
    ("residual", "scaled_ws", 0.2): "residual, NF, alpha 0.2",
}
NORMALIZATIONS = ("none", "batch_norm", "scaled_ws")  # each has its colour and markers, each connection its dashes
RESNETS = {
    "unnormalized_resnet": "unnormalized ResNet",
    "bn_resnet": "BN-ResNet",
    "nf_resnet": "NF-ResNet, alpha 1",
    "skipinit_resnet": "SkipInit ResNet",
}
FORMULAS: dict[str, Callable[[Numbers], Numbers]] = {
    "source: 1 / 2^L, plain": lambda depth: 0.5**depth,
    "source: (3/4)^L, residual": lambda depth: 0.75**depth,
    "source: 1 / sqrt(L), residual, BN": lambda depth: depth**-0.5,
}

METHOD = (
    "95 % Student t interval over runs; each seed is fitted by itself, by least squares of the logarithm, without "
    f"depths from the first correlation of at most {NOISE:g} on. If fewer than four are left, the seed has no fit."
)


def analyse(analysis: Analysis) -> Sequence[Path]:
    """A table of all fits, and figures against depth (fully connected networks, ResNets) and against distance."""
    table, output = analysis.table, analysis.output
    if not (table["state"] == "completed").any():
        raise InputError(f"{analysis.experiment}: no run is completed:{unfinished(table)}")
    fully_connected, resnets = fully_connected_kinds(table), resnet_kinds(table)
    note = f"{about(table, fully_connected + resnets)}; scale {analysis.scale}.{unfinished(table)}"
    rows = [row(kind) for kind in fully_connected + resnets]
    heading = f"Correlation of gradients at orthogonal inputs, by depth, scale {analysis.scale}"
    written = [write_markdown(output, heading, rows, f"{note} {METHOD}")]
    print(written[0].read_text())
    if fully_connected:
        title = "Shattered gradients: correlation of the gradients at orthogonal inputs, fully connected networks"
        inferred = f"{note} The source's formulas are inferred."
        figure = draw_decay(fully_connected, title, inferred, "nonlinear layers L, or blocks", NOISE, FORMULAS)
        written += save_figure(figure, output)
        title = "Shattered gradients: autocorrelation of the gradient along the circle, fully connected networks"
        curves = [distances(kind, analysis.runs) for kind in fully_connected]
        figure = draw_distances(fully_connected, curves, noises(table), title, note)
        written += save_figure(figure, named_with(output, "distances"))
    if any(kind.done["model.depth"].nunique() > 1 for kind in resnets):
        title = "Shattered gradients: correlation of the gradients at orthogonal inputs, ResNets"
        written += save_figure(draw_decay(resnets, title, note, "layers", NOISE, {}), named_with(output, "resnets"))
    return written


def named_with(output: Path, name: str) -> Path:
    return output.with_name(f"{output.name}_{name}")


def about(table: pd.DataFrame, kinds: Sequence[Kind]) -> str:
    """The inputs and draws of a run, and the number of completed runs of a network, as a note."""
    inputs, draws = (" or ".join(map(str, sorted(table[name].unique()))) for name in ("inputs", "draws"))
    networks = {f"{kind.label} {depth}": runs for kind in kinds for depth, runs in kind.done.groupby("model.depth")}
    return (
        f"{inputs} inputs on a circle; a run is the mean of {draws} initialisations, "
        f"n = {seeds_drawn(networks)} runs a network"
    )


def fully_connected_kinds(table: pd.DataFrame) -> list[Kind]:
    own = table[table["model.name"] == "fully_connected"]
    kinds = []
    for (connection, normalization, alpha), label in FULLY_CONNECTED.items():
        same = own[(own["model.connection"] == connection) & (own["model.normalization"] == normalization)]
        dashes = 0 if connection == "plain" else 1 if alpha == 1.0 else 3
        runs, color = same[same["model.alpha"] == alpha], NORMALIZATIONS.index(normalization)
        kinds.append(Kind(label, runs, color, dashes, hollow=alpha < 1.0))
    return [kind for kind in kinds if not kind.runs.empty]


def resnet_kinds(table: pd.DataFrame) -> list[Kind]:
    kinds = [
        Kind(label, table[table["model.name"] == name], number, number)
        for number, (name, label) in enumerate(RESNETS.items())
    ]
    return [kind for kind in kinds if not kind.runs.empty]


def row(kind: Kind) -> dict[str, str]:
    """The row of the table for one kind of network."""
    done, largest = kind.done, int(kind.runs["model.depth"].max())
    deepest = done[done["model.depth"] == largest]
    exponential, power, seeds = fits(done, "exponential"), fits(done, "power"), done["seed"].nunique()
    diverged = int((kind.runs["state"] == "diverged").sum())
    return {
        "network": kind.label,
        "factor a layer": of_fits((fit.rate for fit in exponential), seeds),
        "R² of the exponential": of_fits((fit.r_squared for fit in exponential), seeds),
        "-exponent": of_fits((fit.rate for fit in power), seeds),
        "R² of the power": of_fits((fit.r_squared for fit in power), seeds),
        "largest depth": str(largest),
        "correlation there": interval(deepest["gradient_correlation"]),
        "autocorrelation of neighbours there": interval(deepest["neighbour_autocorrelation"]),
        "runs": f"{len(done)}" + (f", {diverged} diverged" if diverged else ""),
    }


def fits(done: pd.DataFrame, law: Law) -> list[Decay]:
    """A fit for each seed for which there is one."""
    found = []
    for _, runs in done.groupby("seed"):
        with suppress(InputError):
            found.append(fit_decay(runs["model.depth"].tolist(), runs["gradient_correlation"].tolist(), law, NOISE))
    return found


def of_fits(values: Iterable[float], seeds: int) -> str:
    """The interval over the seeds with a fit, and their number if it is not all `seeds`."""
    found = list(values)
    return interval(found) + (f" ({len(found)} of {seeds} seeds)" if 0 < len(found) < seeds else "")


def interval(values: Iterable[float]) -> str:
    found = mean_interval([value for value in values if np.isfinite(value)])
    return found.text(3) if found.n else ""


def distances(kind: Kind, folder: Path) -> pd.DataFrame:
    """Rows of (depth, degrees, autocorrelation) of completed runs. Raises `InputError` for one without its table."""
    parts = [pd.DataFrame({"depth": [], "degrees": [], "autocorrelation": []})]
    for _, run in kind.done.iterrows():
        path = folder / str(run["id"]) / TABLE
        try:
            rows = pd.read_csv(path)[["degrees", "autocorrelation"]]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: cannot be read ({error}): redo the run with --force '{run['id']}'") from None
        parts.append(rows.assign(depth=int(run["model.depth"])))
    return pd.concat(parts, ignore_index=True)


def noises(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Autocorrelation by degrees, of white noise and of brown noise that ends where it began."""
    count = int(table["inputs"].max())

    def by_degrees(noise: GradientCorrelation) -> pd.Series:
        values = noise.autocorrelation(closed=True).tolist()
        return pd.Series(values, index=360.0 * np.arange(len(values)) / count)

    return {"white noise": by_degrees(white_noise(count)), "brown noise": by_degrees(brown_noise(count, closed=True))}


def draw_decay(
    kinds: Sequence[Kind],
    title: str,
    note: str,
    depth: str,
    noise: float,
    formulas: Mapping[str, Callable[[Numbers], Numbers]],
) -> Figure:
    """A figure of correlation against depth: exponentials are straight lines on the left, powers on the right.

    The fit of each kind is a thick line in the panel of the law that fits its mean better. Values below `noise` mean
    nothing. `formulas` give a correlation for each depth.
    """
    figure = new_figure(4.2)
    panels = figure.subplots(1, 2, sharey=True)
    depths = np.concatenate([kind.runs["model.depth"].to_numpy(float) for kind in kinds])
    x = np.geomspace(depths.min(), depths.max(), 200)
    laws: tuple[Law, Law] = ("exponential", "power")
    for axes, law, scale in zip(panels, laws, ("linear", "log"), strict=True):
        for kind in kinds:
            _draw_kind(axes, kind)
            _draw_fit(axes, kind, law, noise)
        for number, formula in enumerate(formulas.values()):
            axes.plot(x, formula(x), zorder=1, **_formula_line(number))
        axes.axhspan(LEAST_DRAWN, noise, color="0.9", zorder=0)
        axes.set_xscale(scale)
        if scale == "log":
            axes.set_xticks(_apart(depths), minor=False)
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_yscale("log")
        axes.set_ylim(LEAST_DRAWN, 1.3)
        axes.set_xlabel(depth)
        axes.set_title("exponentials are straight" if law == "exponential" else "powers are straight")
    panels[0].set_ylabel("correlation of gradients")
    entitle(figure, title)
    handles = [Line2D([], [], label=kind.label, **kind.line) for kind in kinds]
    handles += [Line2D([], [], label=name, **_formula_line(number)) for number, name in enumerate(formulas)]
    drawn = "Line: mean, band: range of runs; thick: the law that fits better, in its panel; grey: lost in noise."
    legend_with_note(figure, handles, f"{note} {drawn}", columns=4)
    return figure


def draw_distances(
    kinds: Sequence[Kind], curves: Sequence[pd.DataFrame], noises: Mapping[str, pd.Series], title: str, note: str
) -> Figure:
    """A figure of the autocorrelation along the circle, with a panel for each kind and a line for each depth.

    `curves` has those of all runs of each kind, with columns depth, degrees, autocorrelation. `noises` has two kinds of
    noise: autocorrelation by degrees.
    """
    rows = -(-len(kinds) // COLUMNS)
    figure = new_figure(1.2 + 1.5 * rows)
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    colors = _depth_colors(pd.concat(curves)["depth"])
    for axes in panels.flat[len(kinds) :]:
        axes.set_axis_off()
    for axes, kind, own in zip(panels.flat, kinds, curves, strict=False):
        for depth, color in colors.items():
            mean = own[own["depth"] == depth].groupby("degrees")["autocorrelation"].mean()
            axes.plot(mean.index, mean, color=color, linewidth=1.3)
        for noise, line in zip(noises.values(), NOISE_LINES, strict=True):
            axes.plot(noise.index, noise, **line)
        axes.set_title(kind.label)
        axes.set_xticks([0, 45, 90, 135, 180])
    for axes in panels[-1]:
        axes.set_xlabel("degrees apart")
    for axes in panels[:, 0]:
        axes.set_ylabel("autocorrelation")
    entitle(figure, title)
    handles = [Line2D([], [], color=color, label=f"depth {depth}") for depth, color in colors.items()]
    handles += [Line2D([], [], label=name, **line) for name, line in zip(noises, NOISE_LINES, strict=True)]
    legend_with_note(figure, handles, f"{note} Line: mean of runs.", columns=6)
    return figure


def _draw_kind(axes: Axes, kind: Kind) -> None:
    over_seeds = kind.done.groupby("model.depth")["gradient_correlation"].agg(["mean", "min", "max"])
    # Values that are 0 or negative by chance have no logarithm: they are drawn below the axis.
    low, mean, high = (over_seeds[name].clip(lower=LEAST_DRAWN / 10) for name in ("min", "mean", "max"))
    axes.fill_between(over_seeds.index, low, high, color=PALETTE[kind.color], alpha=0.18, linewidth=0)
    axes.plot(over_seeds.index, mean, linewidth=0.9, **kind.line)


def _apart(depths: Numbers) -> list[float]:
    """The depths whose labels have room on a logarithmic axis."""
    apart: list[float] = []
    for depth in np.unique(depths):
        if not apart or depth >= 1.5 * apart[-1]:
            apart.append(float(depth))
    return apart


def _draw_fit(axes: Axes, kind: Kind, law: Law, noise: float) -> None:
    """Draw the fit of `law` over its depths, if it is the better one."""
    mean = kind.done.groupby("model.depth")["gradient_correlation"].mean()
    depths = [float(depth) for depth in mean.index]
    try:
        exponential, power = (fit_decay(depths, mean.tolist(), of, noise) for of in ("exponential", "power"))
    except InputError:
        return
    better = exponential if exponential.r_squared > power.r_squared else power
    if better.law == law:
        x = np.geomspace(depths[0], depths[better.points - 1], 50)
        axes.plot(x, [better.at(depth) for depth in x], color=PALETTE[kind.color], linewidth=2.2, alpha=0.6)


def _formula_line(number: int) -> dict[str, Any]:
    return {"color": "black", "linewidth": 0.8, "linestyle": LINE_STYLES[number]}


def _depth_colors(depths: pd.Series) -> dict[int, Any]:
    """A colour for each depth that is drawn; the smallest depth is dark."""
    known = sorted({int(depth) for depth in depths})
    drawn = [known[int(at)] for at in np.linspace(0, len(known) - 1, min(len(known), MOST_DEPTHS))]
    return dict(zip(drawn, sns.color_palette("viridis", len(drawn)), strict=True))


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
