"""Very deep networks without regularisation: map of collapsed runs by learning rate and seed (claim C26)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import NullLocator

from nfrepro.claims.evidence import chance_level
from nfrepro.claims.measured_run import NoValue
from nfrepro.claims.quantities import CHANCE_LEVELS
from nfrepro.plots.comparison import Comparison, Factor, read_arms, setting
from nfrepro.plots.paper_values import COLLAPSES
from nfrepro.plots.run_counts import count_runs
from nfrepro.plots.script import Analysis, run_script, write_markdown
from nfrepro.plots.style import MARKERS, PALETTE, entitle, legend_with_note, new_figure, save_figure
from nfrepro.stats.intervals import Interval, mean_interval
from nfrepro.stats.proportions import exact_interval

EXPERIMENT = "deep_stability"
NEAR = 1.1  # times the top-1 of guessing: the range of chance with 1,000 images in 10 classes
COLORS = colormaps["cividis"]
NOTHING = mean_interval([])  # NaN, which breaks the line


@dataclass(frozen=True)
class Outcome:
    """The end of one run."""

    rate: float  # the peak learning rate
    seed: int
    state: str
    top1: float  # in percent; NaN unless completed
    at_chance: bool  # no better than guessing, up to the chance in the images
    is_low: bool  # at most twice the top-1 of guessing
    diverged_at: float  # step; NaN unless diverged

    @property
    def collapsed(self) -> bool:
        """Whether the run diverged, or was little better than guessing at the end."""
        return self.state == "diverged" or self.is_low

    @property
    def ended(self) -> bool:
        return self.state in ("completed", "diverged")


def read_outcomes(table: pd.DataFrame) -> list[Outcome]:
    """The outcome of each row of runs.csv."""
    return [_outcome(row) for _, row in table.iterrows()]


def peak_rate(row: pd.Series) -> float:
    """The learning rate after warm-up: linear in the batch size."""
    return float(row["train.lr_per_256"] * row["train.batch_size"] / 256)


def collapses(outcomes: Sequence[Outcome]) -> Interval | None:
    """The share of collapsed runs among those that ended; None if none ended."""
    ended = [outcome.collapsed for outcome in outcomes if outcome.ended]
    return exact_interval(sum(ended), len(ended)) if ended else None


RATES = Comparison(
    title="Very deep NF-ResNets without regularisation",
    axis=Factor("peak learning rate", ("train.lr_per_256",), peak_rate, scale="logarithmic"),
)
WITHOUT = replace(RATES, title="Very deep ResNets with nothing in place of BatchNorm")
COLLAPSED = f"Collapsed: diverged (loss not finite), or a final top-1 of at most {CHANCE_LEVELS:g} times guessing's."


def analyse(analysis: Analysis) -> Sequence[Path]:
    """One table and one figure for NF-ResNets, and for each other network."""
    written: list[Path] = []
    for name, runs in analysis.table.groupby("model.name", sort=False):
        suffix = "" if name == "nf_resnet" else f"_{str(name).removesuffix('_resnet')}"
        output = analysis.output.with_name(f"{analysis.output.name}{suffix}")
        of, paper = (WITHOUT, {}) if suffix else (RATES, COLLAPSES)
        written += draw(replace(analysis, table=runs, output=output), of, paper)
    return written


def draw(analysis: Analysis, rates: Comparison, paper: Mapping[float, tuple[int, int]]) -> Sequence[Path]:
    """One table and one figure; `paper` is empty for a network that the paper does not have."""
    read_arms(rates, analysis.table, str(analysis.table_path))  # refuses runs that cannot be compared
    outcomes = read_outcomes(analysis.table)
    about = setting(rates, analysis.table, analysis.scale)
    note = (
        f"Ours: {about}. {COLLAPSED} Its share has a 95 % exact binomial interval (Clopper and Pearson), over n seeds "
        "that completed or diverged; the accuracy of the others a 95 % Student t interval."
    )
    if paper:
        note += '\n\nColumn "paper (ImageNet, 288 layers)": section 5, batch size 1024; second hand.'
        rates_here = by_rate(outcomes)
        others = [f"{rate:g}: {hits} of {n}" for rate, (hits, n) in paper.items() if not _has(rates_here, rate)]
        note += f" At rates that are not here: {'; '.join(others)}." if others else ""
    table = write_markdown(analysis.output, rates.title, stability_rows(outcomes, paper), note)
    print(table.read_text())
    figure = draw_stability(outcomes, paper, rates.title, f"{about}. {COLLAPSED}")
    return [table, *save_figure(figure, analysis.output)]


def stability_rows(outcomes: Sequence[Outcome], paper: Mapping[float, tuple[int, int]]) -> list[dict[str, str]]:
    """A row for each learning rate; `paper` has the numbers of collapsed and of all runs."""
    rows = []
    for rate, own in by_rate(outcomes).items():
        share = collapses(own)
        others = [outcome.top1 for outcome in own if outcome.ended and not outcome.collapsed]
        counts = count_runs(outcome.state for outcome in own)
        known = next((f"{hits} of {n}" for at, (hits, n) in paper.items() if math.isclose(at, rate)), "")
        rows.append(
            {
                "peak learning rate": f"{rate:g}",
                "diverged": str(counts.diverged),
                f"at most {CHANCE_LEVELS:g} times guessing": str(sum(outcome.is_low for outcome in own)),
                "collapsed (%)": "" if share is None else f"{share.mean:.0f} ({share.low:.0f} to {share.high:.0f})",
                "n": str(counts.ended),
            }
            | counts.without_result()
            | {"test top-1 of the others (%)": str(mean_interval(others))}
            | ({"paper (ImageNet, 288 layers)": known} if paper else {})
        )
    return rows


def _has(rates: Iterable[float], rate: float) -> bool:
    return any(math.isclose(rate, at) for at in rates)


def by_rate(outcomes: Sequence[Outcome]) -> dict[float, list[Outcome]]:
    """The outcomes by learning rate, in ascending order."""
    rates = sorted({outcome.rate for outcome in outcomes})
    return {rate: [outcome for outcome in outcomes if outcome.rate == rate] for rate in rates}


def draw_stability(
    outcomes: Sequence[Outcome], paper: Mapping[float, tuple[int, int]], title: str, note: str
) -> Figure:
    """The map of all runs, and the share that collapsed against the learning rate."""
    rates = list(by_rate(outcomes))
    seeds = sorted({outcome.seed for outcome in outcomes})
    figure = new_figure(1.6 + max(1.6, 0.36 * len(seeds)))
    left, right = figure.subplots(1, 2, width_ratios=[max(2.6, 0.85 * len(rates)), 3.0])
    _draw_map(left, outcomes, rates, seeds)
    _draw_shares(right, outcomes, paper)
    entitle(figure, title)
    handles = [
        *right.get_legend_handles_labels()[0],
        Patch(facecolor="white", edgecolor="0.5", hatch="///", label="diverged at that step"),
    ]
    legend_with_note(figure, handles, note, columns=3)
    return figure


def _outcome(row: pd.Series) -> Outcome:
    state, top1 = str(row["state"]), float(row.get("top1", math.nan))
    try:
        guessing = chance_level(row)
    except NoValue:
        guessing = math.nan  # with an unknown number of classes nothing counts as guessing
    at_chance, is_low = (state == "completed" and bool(top1 <= times * guessing) for times in (NEAR, CHANCE_LEVELS))
    diverged_at = float(row.get("diverged_at_step", math.nan))
    return Outcome(peak_rate(row), int(row["seed"]), state, top1, at_chance, is_low, diverged_at)


def _draw_map(axes: Axes, outcomes: Sequence[Outcome], rates: Sequence[float], seeds: Sequence[int]) -> None:
    """Draw a cell for each run: its accuracy as text and colour, or how it ended."""
    shade = Normalize(0, 100)
    for outcome in outcomes:
        place = (rates.index(outcome.rate) - 0.5, seeds.index(outcome.seed) - 0.5)
        completed = outcome.state == "completed"
        color = COLORS(shade(outcome.top1)) if completed else ("white" if outcome.state == "diverged" else "0.85")
        hatch = "///" if outcome.state == "diverged" else None
        axes.add_patch(Rectangle(place, 1, 1, facecolor=color, edgecolor="0.5", hatch=hatch, linewidth=0.5))
        text = axes.text(place[0] + 0.5, place[1] + 0.5, _words(outcome), ha="center", va="center", fontsize=7)
        text.set_color("white" if completed and outcome.top1 < 55 else "black")
        if outcome.state == "diverged":
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
    axes.set_xlim(-0.5, len(rates) - 0.5)
    axes.set_ylim(-0.5, len(seeds) - 0.5)
    axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_yticks(range(len(seeds)), [str(seed) for seed in seeds])
    axes.set_xlabel("peak learning rate")
    axes.set_ylabel("seed")
    axes.set_title("test top-1 (%) of every run")
    axes.grid(False)


def _words(outcome: Outcome) -> str:
    if outcome.state == "completed":
        fate = "\nat chance" if outcome.at_chance else "\ncollapsed" if outcome.is_low else ""
        return f"{outcome.top1:.1f}{fate}"
    if outcome.state == "diverged" and math.isfinite(outcome.diverged_at):
        return f"step {outcome.diverged_at:.0f}"
    return outcome.state


def _draw_shares(axes: Axes, outcomes: Sequence[Outcome], paper: Mapping[float, tuple[int, int]]) -> None:
    ours = {rate: collapses(own) or NOTHING for rate, own in by_rate(outcomes).items()}
    theirs = {rate: exact_interval(hits, n) for rate, (hits, n) in paper.items()}
    rates = sorted({*by_rate(outcomes), *theirs})
    _draw_intervals(axes, ours, 0.97, color=PALETTE[0], marker=MARKERS[0], linestyle="-", label="collapsed")
    hollow = {"marker": MARKERS[1], "markerfacecolor": "none", "linestyle": "none"}
    if theirs:
        _draw_intervals(
            axes, theirs, 1.03, color="0.3", label="the paper, ImageNet, 288 layers (second hand)", **hollow
        )
    axes.set_xscale("log")
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(-4, 104)
    axes.set_xlabel("peak learning rate (logarithmic)")
    axes.set_ylabel("runs that collapsed (%)")
    axes.set_title("share, 95 % exact interval")


def _draw_intervals(
    axes: Axes, shares: Mapping[float, Interval], shift: float, **style: str | tuple[float, ...]
) -> None:
    """Draw shares with their intervals; `shift`, a factor on the rates, keeps two kinds from overlapping."""
    means = [share.mean for share in shares.values()]
    below = [share.mean - share.low for share in shares.values()]
    above = [share.high - share.mean for share in shares.values()]
    axes.errorbar([shift * rate for rate in shares], means, [below, above], capsize=3, **style)  # type: ignore[arg-type]


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
