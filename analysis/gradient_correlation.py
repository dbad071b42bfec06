"""Shattered gradients: the correlation of gradients by depth and by distance, fits, and the source's formulas.

The source is arXiv 1702.08591. Its formulas are inferred: see claims W02, W04 and W05.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from nfrepro.errors import InputError
from nfrepro.plots.gradient_figures import Kind, Numbers, draw_decay, draw_distances
from nfrepro.plots.script import Analysis, run_script, write_markdown
from nfrepro.plots.style import save_figure
from nfrepro.runs.propagation_curves import seeds_drawn, unfinished
from nfrepro.signal import GradientCorrelation, brown_noise, white_noise
from nfrepro.stats.decay import Decay, Law, fit_decay
from nfrepro.stats.intervals import mean_interval

EXPERIMENT = "gradient_correlation"
TABLE = "autocorrelation.csv"
NOISE = 0.01  # a correlation of at most so much is noise, and fits end before it

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
NORMALIZATIONS = ("none", "batch_norm", "scaled_ws")  # each has its colour, each connection its dashes
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
    f"depths from the first correlation of at most {NOISE:g} on. Empty: fewer than four depths are left, and no fit."
)


def analyse(analysis: Analysis) -> Sequence[Path]:
    """A table of all fits; pictures against depth, of fully connected networks and of ResNets, and against distance."""
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
        written += save_figure(figure, beside(output, "distances"))
    if resnets:
        title = "Shattered gradients: correlation of the gradients at orthogonal inputs, ResNets"
        written += save_figure(draw_decay(resnets, title, note, "layers", NOISE, {}), beside(output, "resnets"))
    return written


def beside(output: Path, name: str) -> Path:
    return output.with_name(f"{output.name}_{name}")


def about(table: pd.DataFrame, kinds: Sequence[Kind]) -> str:
    """Inputs and draws of a run, and completed runs of a network."""
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
        style = 0 if connection == "plain" else 1 if alpha == 1.0 else 3
        kinds.append(Kind(label, same[same["model.alpha"] == alpha], NORMALIZATIONS.index(normalization), style))
    return [kind for kind in kinds if not kind.runs.empty]


def resnet_kinds(table: pd.DataFrame) -> list[Kind]:
    kinds = [
        Kind(label, table[table["model.name"] == name], number, number)
        for number, (name, label) in enumerate(RESNETS.items())
    ]
    return [kind for kind in kinds if not kind.runs.empty]


def row(kind: Kind) -> dict[str, str]:
    """One kind of network in the table."""
    done, largest = kind.done, int(kind.runs["model.depth"].max())
    deepest = done[done["model.depth"] == largest]
    exponential, power = fits(done, "exponential"), fits(done, "power")
    diverged = int((kind.runs["state"] == "diverged").sum())
    return {
        "network": kind.label,
        "factor a layer": interval(fit.rate for fit in exponential),
        "R² of the exponential": interval(fit.r_squared for fit in exponential),
        "-exponent": interval(fit.rate for fit in power),
        "R² of the power": interval(fit.r_squared for fit in power),
        "largest depth": str(largest),
        "correlation there": interval(deepest["gradient_correlation"]),
        "autocorrelation of neighbours there": interval(deepest["neighbour_autocorrelation"]),
        "runs": f"{len(done)}" + (f", {diverged} diverged" if diverged else ""),
    }


def fits(done: pd.DataFrame, law: Law) -> list[Decay]:
    """A fit for each seed that has one."""
    found = []
    for _, runs in done.groupby("seed"):
        with suppress(InputError):
            found.append(fit_decay(runs["model.depth"].tolist(), runs["gradient_correlation"].tolist(), law, NOISE))
    return found


def interval(values: Iterable[float]) -> str:
    found = mean_interval([value for value in values if np.isfinite(value)])
    return found.text(3) if found.n else ""


def distances(kind: Kind, folder: Path) -> pd.DataFrame:
    """Columns depth, degrees, autocorrelation of all completed runs. Raises `InputError` for one without its table."""
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
    """Autocorrelation by degrees of white noise, and of brown noise that ends where it began."""
    count = int(table["inputs"].max())

    def by_degrees(noise: GradientCorrelation) -> pd.Series:
        values = noise.autocorrelation(closed=True).tolist()
        return pd.Series(values, index=360.0 * np.arange(len(values)) / count)

    return {"white noise": by_degrees(white_noise(count)), "brown noise": by_degrees(brown_noise(count, closed=True))}


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
