"""Top-1 accuracy against the residual scale alpha: table and figure, from runs.csv (claim C35)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from nfrepro.evidence.figures import MARKERS, PALETTE, new_figure, save_figure
from nfrepro.evidence.script import Analysis, run_script, write_markdown
from nfrepro.evidence.statistics import Interval, mean_interval

EXPERIMENT = "alpha_ablation"
PAPER_ALPHA = 0.2


@dataclass(frozen=True)
class Arm:
    """All runs at one alpha."""

    alpha: float
    values: tuple[float, ...]  # top-1 in percent of the runs that completed
    diverged: int
    unfinished: int  # failed, interrupted, missing

    @property
    def top1(self) -> Interval:
        return mean_interval(self.values)


def analyse(analysis: Analysis) -> Sequence[Path]:
    """Writes and prints the table, draws the figure."""
    arms = summarise(analysis.table)
    title = headline(analysis.table, analysis.scale)
    table = write_markdown(analysis.output, title, rows(arms), note(arms))
    print(table.read_text())
    return [table, *save_figure(draw(arms, title), analysis.output)]


def summarise(table: pd.DataFrame) -> list[Arm]:
    """One arm for each alpha. Runs without a number are counted, not dropped."""
    arms = []
    for alpha, runs in table.groupby("model.alpha"):
        completed = runs[runs["state"] == "completed"]
        diverged = int((runs["state"] == "diverged").sum())
        unfinished = len(runs) - len(completed) - diverged
        arms.append(Arm(float(str(alpha)), tuple(completed.get("top1", ())), diverged, unfinished))
    return arms


def headline(table: pd.DataFrame, scale: str) -> str:
    """What the numbers are numbers of."""
    first = table.iloc[0]
    images = first.get("data.train_images")
    data = first["data.name"] if pd.isna(first["provenance.data"]) else first["provenance.data"]
    subset = "" if images is None or pd.isna(images) else f" ({int(images):,} training images)"
    network = f"NF-ResNet, {first['model.depth']} layers, width {first['model.width']:g}"
    return f"{network}: {data}{subset}, {first['train.epochs']} epochs, scale {scale}"


def rows(arms: Sequence[Arm]) -> list[dict[str, str]]:
    return [
        {
            "alpha": f"{arm.alpha:g}",
            "test top-1 (%)": str(arm.top1),
            "n": str(arm.top1.n),
            "diverged": str(arm.diverged),
            "failed or missing": str(arm.unfinished),
        }
        for arm in arms
    ]


def note(arms: Sequence[Arm]) -> str:
    return f"Mean ± half width of the {arms[0].top1.method}; last epoch; n counts completed runs."


def draw(arms: Sequence[Arm], title: str) -> Figure:
    """Mean and interval against alpha, and every seed as a point of its own."""
    figure = new_figure()
    axes = figure.subplots()
    _draw_means([arm for arm in arms if arm.values], axes)
    _mark_divergence(arms, axes)
    axes.axvline(PAPER_ALPHA, color="0.5", linestyle=":", label=f"the paper's alpha, {PAPER_ALPHA:g}")
    axes.set_xscale("log")
    axes.set_xticks([arm.alpha for arm in arms], [f"{arm.alpha:g}" for arm in arms])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("residual scale alpha (logarithmic)")
    axes.set_ylabel("test top-1 accuracy (%)")
    axes.set_title(title.replace(": ", "\n"))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw_means(arms: Sequence[Arm], axes: Axes) -> None:
    seeds = [(arm.alpha, value) for arm in arms for value in arm.values]
    axes.plot(
        [alpha for alpha, _ in seeds], [value for _, value in seeds], "x", color="0.2", zorder=3, label="one seed"
    )
    counts = " or ".join(str(count) for count in sorted({arm.top1.n for arm in arms}))
    method = arms[0].top1.method if arms else ""
    axes.errorbar(
        [arm.alpha for arm in arms],
        [arm.top1.mean for arm in arms],
        [arm.top1.high - arm.top1.mean if arm.top1.n > 1 else 0.0 for arm in arms],
        marker=MARKERS[0],
        color=PALETTE[0],
        capsize=4,
        label=f"mean and {method}, n = {counts}",
    )


def _mark_divergence(arms: Sequence[Arm], axes: Axes) -> None:
    for arm in arms:
        if arm.diverged:
            place = (arm.alpha, 0.02)
            text = f"{arm.diverged} of {arm.diverged + len(arm.values)}\ndiverged"
            axes.annotate(text, place, xycoords=("data", "axes fraction"), ha="center", fontsize=8)


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
