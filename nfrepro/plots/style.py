"""One style for all figures, and files that are byte-identical if the numbers are."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, Literal

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from nfrepro import atomic

# Distinguishable with any colour vision; in grey, markers distinguish the arms.
PALETTE = sns.color_palette("colorblind")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COLORS = 256  # in a PNG
COLUMN, PAGE = 3.4, 7.0  # widths in inches
NOTE_SIZE = 6.5
# The line of a prediction, which is drawn in a darker shade of the measurement's colour.
PREDICTED: dict[str, Any] = {"linewidth": 0.9, "zorder": 4}

Color = tuple[float, float, float]
LINE_STYLES: tuple[Literal["-", "--", "-.", ":"], ...] = ("-", "--", "-.", ":")


def new_figure(height: float, width: float = PAGE) -> Figure:
    """An empty figure in the house style, `COLUMN` or `PAGE` wide; lengths in inches, font sizes as in print."""
    sns.set_theme(
        context="paper",
        style="ticks",
        palette=PALETTE,
        rc={
            "font.size": 8,
            "axes.titlesize": 8,
            "axes.labelsize": 8,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "legend.fontsize": 7,
            "legend.handlelength": 2.4,
            "figure.titlesize": 9,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "pdf.fonttype": 42,  # TrueType, which publishers ask for
            "svg.hashsalt": "nfrepro",
            "savefig.dpi": 200,
        },
    )
    return plt.figure(figsize=(width, height), layout="constrained")


def entitle(figure: Figure, title: str) -> None:
    """Writes `title` above all panels, wrapped to the width of the figure."""
    figure.suptitle(fill(title, int(13 * figure.get_figwidth())))


def legend_with_note(figure: Figure, handles: Sequence[Artist], note: str, columns: int) -> None:
    """Adds a legend of `handles` in `columns` below all panels, with the wrapped `note` on top of it."""
    # The note is the legend's title: a label of the figure would overlap the legend.
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        title=fill_note(note, figure.get_figwidth()),
        title_fontsize=NOTE_SIZE,
    )


def fill_note(note: str, width: float = PAGE) -> str:
    """The note wrapped to the width of a figure in inches, at the font size of notes."""
    return fill(note, int(19 * width))


def darker(color: Color) -> Color:
    """A darker shade of the same hue, for a prediction next to its measurement."""
    red, green, blue = to_rgb(color)
    return 0.55 * red, 0.55 * green, 0.55 * blue


def save_figure(figure: Figure, path: Path, endings: Sequence[str] = (".png", ".pdf")) -> list[Path]:
    """Writes the figure to `path` with each of `endings` (.png, .pdf, .svg), without dates; closes the figure."""
    contents = {ending: _WRITERS[ending](figure) for ending in endings}
    plt.close(figure)
    for ending, content in contents.items():
        atomic.write_bytes(path.with_name(path.name + ending), content)
    return [path.with_name(path.name + ending) for ending in endings]


def _png(figure: Figure) -> bytes:
    """The figure with a palette that covers all its colours, rare ones too, and is close to those of large areas."""
    drawn, reduced = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    image = Image.open(drawn).convert("RGB")
    palette = image.quantize(COLORS, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    palette.save(reduced, "PNG", optimize=True)
    return reduced.getvalue()


def _pdf(figure: Figure) -> bytes:
    return _vector(figure, "pdf", CreationDate=None, Creator=None, Producer=None)


def _svg(figure: Figure) -> bytes:
    return _vector(figure, "svg", Date=None, Creator=None)


def _vector(figure: Figure, name: str, **metadata: None) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format=name, metadata=metadata)
    return content.getvalue()


_WRITERS: Mapping[str, Callable[[Figure], bytes]] = {".png": _png, ".pdf": _pdf, ".svg": _svg}
