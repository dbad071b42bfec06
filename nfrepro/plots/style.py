"""One look for every figure, and files that are equal byte for byte when the numbers are equal."""

import io
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Literal

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from nfrepro import atomic

# Told apart by people with any colour vision; markers tell arms apart in grey.
PALETTE = sns.color_palette("colorblind")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINE_STYLES: tuple[Literal["-", "--", "-.", ":"], ...] = ("-", "--", "-.", ":")


def new_figure(width: float = 6.0, height: float = 3.8) -> Figure:
    """An empty figure in the house style; sizes in inches."""
    sns.set_theme(
        context="paper",
        style="ticks",
        palette=PALETTE,
        rc={
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "svg.hashsalt": "nfrepro",
            "savefig.dpi": 160,
        },
    )
    return plt.figure(figsize=(width, height), layout="constrained")


def legend_with_note(figure: Figure, handles: Sequence[Artist], note: str, *, columns: int, characters: int) -> None:
    """Below all panels a legend of `handles` in so many columns, and above it `note` in lines of so many characters."""
    # The note is the legend's title: a label of the figure would lie over the legend.
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        title=fill(note, characters),
        title_fontsize=8,
    )


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Writes `path`, which has no ending, as .png and .svg, without dates, and closes the figure."""
    written = []
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
        content = io.BytesIO()
        figure.savefig(content, format=suffix[1:], metadata=metadata)
        target = path.with_name(path.name + suffix)
        atomic.write_bytes(target, content.getvalue())
        written.append(target)
    plt.close(figure)
    return written
