"""Signal propagation under every switch: a figure for each group of variants, and the values at the ends of stages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nfrepro.plots.propagation_figure import draw_propagation
from nfrepro.plots.propagation_table import stage_ends
from nfrepro.plots.script import Analysis, run_script, write_markdown
from nfrepro.plots.style import save_figure
from nfrepro.runs.propagation_curves import read_curves, seeds_drawn, unfinished

EXPERIMENT = "spp_variants"
# The options of the NF-ResNets of this experiment, unless their arm says otherwise.
USUAL = {
    "model.activation": "relu",
    "model.convolution": "scaled_ws",
    "model.beta": "ledger",
    "model.shortcut": "strided_conv",
    "model.shortcut_input": "activated",
    "model.squeeze_excite": "none",
}


NETWORKS = {"bn_relu_conv": "BN-ReLU-Conv", "relu_bn_conv": "ReLU-BN-Conv"}


@dataclass(frozen=True)
class Group:
    """The curves of one figure."""

    name: str
    title: str
    chosen: Callable[[pd.Series], bool]
    label: Callable[[pd.Series], str]
    logarithmic: bool = False


def differs(row: pd.Series, *allowed: str) -> bool:
    """True unless an NF-ResNet on three-channel noise has the usual options, apart from those `allowed`."""
    if row["model.name"] != "nf_resnet" or row["data.name"] != "gaussian" or row["data.channels"] != 3:
        return True
    return any(row[key] != value for key, value in USUAL.items() if key not in allowed)


def with_alpha(row: pd.Series, alpha: float, *allowed: str) -> bool:
    return not differs(row, *allowed) and row["model.alpha"] == alpha


GROUPS = (
    Group("alpha", "residual scale alpha", lambda row: not differs(row), lambda row: f"alpha {row['model.alpha']:g}"),
    Group(
        "activation",
        "activations, alpha 0.2",
        lambda row: with_alpha(row, 0.2, "model.activation"),
        lambda row: str(row["model.activation"]),
    ),
    Group(
        "squeeze_excite",
        "squeeze-excite at the end of the branch, alpha 0.2",
        lambda row: with_alpha(row, 0.2, "model.squeeze_excite"),
        lambda row: "none" if row["model.squeeze_excite"] == "none" else f"gain {row['model.squeeze_excite_gain']:g}",
    ),
    Group(
        "standardization",
        "convolutions, alpha 0.2",
        lambda row: with_alpha(row, 0.2, "model.convolution"),
        lambda row: {"scaled_ws": "scaled WS", "ws": "WS without 1 / sqrt(N) and gamma", "he": "He"}[
            str(row["model.convolution"])
        ],
        logarithmic=True,
    ),
    Group(
        "reset",
        "ledger and shortcut, alpha 1",
        lambda row: with_alpha(row, 1.0, "model.beta", "model.shortcut_input"),
        lambda row: (
            "raw shortcut"
            if row["model.shortcut_input"] == "raw"
            else {"ledger": "the paper's", "no_reset": "no reset", "off": "beta 1 everywhere"}[str(row["model.beta"])]
        ),
        logarithmic=True,
    ),
    Group(
        "shortcut",
        "downsampling, alpha 0.2",
        lambda row: with_alpha(row, 0.2, "model.shortcut"),
        lambda row: {"strided_conv": "strided 1x1", "average_pool": "average pool, 1x1"}[str(row["model.shortcut"])],
    ),
    Group(
        "silu",
        "SiLU at alpha 1",
        lambda row: with_alpha(row, 1.0, "model.activation") or three_channel_bn(row),
        lambda row: "ReLU-BN-Conv" if row["model.name"] == "bn_resnet" else f"NF, {row['model.activation']}",
        logarithmic=True,
    ),
    Group(
        "unnormalized",
        "nothing in place of BatchNorm",
        lambda row: row["model.name"] == "unnormalized_resnet",
        lambda row: "unnormalized, He",
        logarithmic=True,
    ),
    Group(
        "input",
        "noise and pictures of one channel, blown up",
        lambda row: one_channel(row) and row["model.stem"] == "imagenet",
        lambda row: f"{NETWORKS.get(str(row.get('model.order')), 'NF')}, {row['data.name']}",
    ),
    Group(
        "input_native",
        "noise and pictures of one channel, of 28 pixels",
        lambda row: one_channel(row) and row["model.stem"] == "small",
        lambda row: f"{NETWORKS.get(str(row.get('model.order')), 'NF')}, {row['data.name']}",
    ),
)


def one_channel(row: pd.Series) -> bool:
    return bool(row["data.name"] != "gaussian" or row["data.channels"] == 1)


def three_channel_bn(row: pd.Series) -> bool:
    return bool(row["model.name"] == "bn_resnet" and row["data.name"] == "gaussian" and row["data.channels"] == 3)


def analyse(analysis: Analysis) -> Sequence[Path]:
    """Draws every group; a single table has the ends of the stages of all."""
    written, rows = [], []
    for group in GROUPS:
        runs = analysis.table[[bool(group.chosen(row)) for _, row in analysis.table.iterrows()]]
        curves = read_curves(runs, analysis.runs, group.label)
        if not curves:
            continue
        first = runs.iloc[0]
        title = f"Signal propagation, {first['model.depth']} layers: {group.title}"
        note = (
            f"{first['pixels']} px, batch {first['batch']}; line: mean of n = {seeds_drawn(curves)} "
            f"initialisations, band: their range; scale {analysis.scale}.{unfinished(runs)}"
        )
        path = analysis.output.with_name(f"{analysis.output.name}_{group.name}")
        written += save_figure(draw_propagation(curves, title, note, logarithmic=group.logarithmic), path)
        rows += [{"group": group.name, **row} for row in stage_ends(curves)]
    note = "95 % Student t interval over seeds; the prediction is for white noise. " + unfinished(analysis.table)
    table = write_markdown(
        analysis.output, f"Signal propagation under every switch, scale {analysis.scale}", rows, note
    )
    return [table, *written]


if __name__ == "__main__":
    run_script(EXPERIMENT, __doc__ or "", analyse)
