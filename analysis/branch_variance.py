"""Variance of residual branches against that of the skip path at initialisation: by block, and by depth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from nfrepro.plots.script import Analysis, run_script, write_markdown
from nfrepro.plots.seed_lines import draw_over_seeds, line_style, surround
from nfrepro.plots.style import PREDICTED, darker, new_figure, save_figure
from nfrepro.runs.propagation_curves import check_some, read_curves, seeds_drawn, unfinished
from nfrepro.stats.intervals import mean_interval

EXPERIMENT = "branch_variance"
FILE = "propagation.csv"
ORDERS = {"bn_relu_conv": "BN-ReLU-Conv", "relu_bn_conv": "ReLU-BN-Conv"}
NAMES = {"unnormalized_resnet": "unnormalized", "skipinit_resnet": "SkipInit, scalar 1"}


@dataclass(frozen=True)
class Network:
    """A line of the figure."""

    name: str
    blocks: int  # of each stage
    alpha: float  # scale of the branch: 1 except in NF-ResNets; SkipInit's starts at 0, and is drawn as if it were 1
    follows_theory: bool

    def ratio(self, block: int) -> float:
        """Branch variance over that of the skip path in block 2, 3, … of a stage; NaN if there is no closed form.

        The first block leaves 1 + alpha^2 on the skip path and each further one adds alpha^2, with branches of variance
        1 before alpha. BatchNorm makes all branches alike: with alpha 1, 1 / block follows whatever their variance.
        """
        return self.alpha**2 / (1 + (block - 1) * self.alpha**2) if self.follows_theory else float("nan")


def network(row: pd.Series) -> Network:
    """The network of a row of runs.csv."""
    blocks = int(str(row["model.blocks"]).strip("[]").split(",")[0])
    family = str(row["model.name"])
    if family == "bn_resnet":
        return Network(ORDERS[row["model.order"]], blocks, 1.0, follows_theory=True)
    if family == "nf_resnet":
        return Network(f"NF, alpha {row['model.alpha']:g}", blocks, float(row["model.alpha"]), follows_theory=True)
    return Network(NAMES[family], blocks, 1.0, follows_theory=False)


def analyse(analysis: Analysis) -> Sequence[Path]:
    """The table, and a figure of the deepest networks by block and of all networks by depth."""
    table = analysis.table
    networks = {network_id(row): network(row) for _, row in table.iterrows()}
    curves = read_curves(table, analysis.runs, network_id, FILE)
    check_some(curves, table, analysis.experiment)
    ratios = {networks[name]: branch_over_skip(rows, networks[name]) for name, rows in curves.items()}
    first = table.iloc[0]
    note = (
        f"N(0, 1) input, {first['pixels']} px, batch {first['batch']}, width {first['model.width']:g}; line: mean of "
        f"n = {seeds_drawn(curves)} initialisations, over all stages, band: their range; darker: closed form, "
        f"1/block with BN. SkipInit's scalar begins at 0, where its branches have no variance.{unfinished(table)}"
    )
    title = f"Residual branch against skip path at initialisation, scale {analysis.scale}"
    written = write_markdown(analysis.output, title, table_rows(ratios), note)
    print(written.read_text())
    return [written, *save_figure(draw(ratios, title, note), analysis.output)]


def network_id(row: pd.Series) -> str:
    """A name that distinguishes the networks of runs.csv."""
    return str(network(row))


def branch_over_skip(rows: pd.DataFrame, of: Network) -> pd.DataFrame:
    """Rows of (seed, stage, block of its stage, ratio, root of ratio), without transition blocks.

    In the other blocks the skip path is the output of the previous block."""
    wide = rows.pivot_table(index=["seed", "stage", "block", "transition"], columns="statistic", values="measured")
    wide = wide.reset_index()
    skip = wide.groupby("seed")["avg_var"].shift()
    wide["ratio"] = of.alpha**2 * wide["res_var"] / skip
    wide["root"] = np.sqrt(wide["ratio"])
    wide["block"] = wide.groupby(["seed", "stage"]).cumcount() + 1
    return wide.loc[~wide["transition"], ["seed", "stage", "block", "ratio", "root"]]


def table_rows(ratios: Mapping[Network, pd.DataFrame]) -> list[dict[str, str]]:
    """A row for each network and depth: the last block of stages, and the mean over blocks."""
    rows = []
    names = list(dict.fromkeys(of.name for of in ratios))
    for of, found in sorted(ratios.items(), key=lambda item: (names.index(item[0].name), item[0].blocks)):
        last = found[found["block"] == of.blocks].groupby("seed")["ratio"].mean()
        roots = found.groupby("seed")["root"].mean()
        rows.append(
            {
                "network": of.name,
                "blocks of a stage": str(of.blocks),
                "branch / skip variance, last block": mean_interval(last.tolist()).text(4),
                "closed form": _text(of.ratio(of.blocks)),
                "branch / skip deviation, mean over blocks": mean_interval(roots.tolist()).text(3),
                "its closed form": _text(mean_root(of)),
                "n": str(len(last)),
            }
        )
    return rows


def mean_root(of: Network) -> float:
    """The closed form of the ratio of deviations, averaged over all blocks of a stage except the first."""
    return float(np.mean([of.ratio(block) ** 0.5 for block in range(2, of.blocks + 1)]))


def draw(ratios: Mapping[Network, pd.DataFrame], title: str, note: str) -> Figure:
    """The ratio of variances by block, and that of deviations by depth; both logarithmic."""
    figure = new_figure(3.7)
    left, right = figure.subplots(1, 2)
    names = list(dict.fromkeys(of.name for of in ratios))
    deepest = max(of.blocks for of in ratios)
    by_block = {name: _rows(ratios, name, deepest) for name in names}
    by_depth = {name: _rows(ratios, name, None) for name in names}
    draw_over_seeds(left, by_block, "block", "ratio")
    draw_over_seeds(right, by_depth, "blocks", "root")
    for number, name in enumerate(names):
        own = sorted((of for of in ratios if of.name == name), key=lambda of: of.blocks)
        blocks = range(2, deepest + 1)
        predicted = {"color": darker(line_style(number)["color"]), **PREDICTED}
        left.plot(blocks, [own[-1].ratio(block) for block in blocks], **predicted)
        right.plot([of.blocks for of in own], [mean_root(of) for of in own], **predicted)
    _logarithmic(left, [2, 4, 8, 16, deepest])
    _logarithmic(right, sorted({of.blocks for of in ratios}))
    left.set_title("variance of branch / skip path")
    left.set_xlabel(f"block of its stage of {deepest}")
    right.set_title("deviation of branch / skip path, mean over blocks")
    right.set_xlabel("blocks of a stage")
    return surround(figure, names, title, note)


def _rows(ratios: Mapping[Network, pd.DataFrame], name: str, blocks: int | None) -> pd.DataFrame:
    """The rows of networks of that name with `blocks` blocks (None: any number), which column `blocks` gives."""
    chosen = [of for of in ratios if of.name == name and blocks in (None, of.blocks)]
    return pd.concat([ratios[of].assign(blocks=of.blocks) for of in chosen])


def _logarithmic(axes: Axes, ticks: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _text(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3g}"


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
