"""The signal propagation plot: what is on it, that nothing is cut off, that equal numbers make equal files."""

import io
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from nfrepro.plots.paper_values import PaperCurve
from nfrepro.plots.propagation_figure import draw_propagation
from nfrepro.plots.propagation_table import stage_ends
from nfrepro.plots.style import save_figure
from nfrepro.runs.propagation_curves import read_curves, seeds_drawn, unfinished

STATISTICS = ("avg_sq_mean", "avg_var", "res_var")
NAMES = ["average channel squared mean", "average channel variance", "residual average channel variance"]


def curve(seeds: int = 2, slope: float = 1.0, predicted: bool = True) -> pd.DataFrame:
    """Two stages of three blocks: after block b the statistic number k is k + slope * b + seed / 10."""
    rows = [
        {
            "seed": seed,
            "block": block,
            "stage": (block + 2) // 3,
            "transition": block in (1, 4),
            "statistic": statistic,
            "measured": number + slope * block + seed / 10,
            "predicted": number + slope * block if predicted else np.nan,
        }
        for seed in range(seeds)
        for number, statistic in enumerate(STATISTICS)
        for block in range(1, 7)
    ]
    return pd.DataFrame(rows)


def without_warnings(figure: Figure) -> Figure:
    """Drawn once, as it is when it is saved; matplotlib warns of a layout that does not fit, and of values it drops."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    return figure


def cut_off(figure: Figure) -> list[str]:
    """Texts that are not wholly on the canvas."""
    figure.canvas.draw()
    canvas = figure.bbox
    ticks = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for label in axis.get_ticklabels(which="both")
    }
    found = []
    for text in figure.findobj(Text):
        if not text.get_visible() or not text.get_text().strip() or id(text) in ticks:
            continue
        box = text.get_window_extent()
        if box.x0 < -1 or box.y0 < -1 or box.x1 > canvas.x1 + 1 or box.y1 > canvas.y1 + 1:
            found.append(text.get_text())
    for axes in figure.axes:  # with the labels of its ticks
        box = axes.get_tightbbox()
        assert box is not None
        if box.x0 < -1 or box.y0 < -1 or box.x1 > canvas.x1 + 1 or box.y1 > canvas.y1 + 1:
            found.append(f"axes {axes.get_title()}")
    return found


def overlaps(figure: Figure) -> bool:
    """True if the legend, the note, the title or a picture hide one another."""
    figure.canvas.draw()
    parts = [axes.get_tightbbox() for axes in figure.axes]
    parts += [legend.get_window_extent() for legend in figure.legends]
    parts += [text.get_window_extent() for text in (figure._suptitle, figure._supxlabel) if text is not None]
    return any(
        min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
        for number, a in enumerate(parts)
        for b in parts[:number]
    )


def in_one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def legend_of(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_panels_labels_and_legend() -> None:
    paper = [PaperCurve("BN", "avg_var", (3, 6), (3.5, 6.5))]
    figure = without_warnings(draw_propagation({"BN": curve(), "NF": curve(slope=2.0)}, "a title", "a note", paper))
    assert [in_one_line(axes.get_ylabel()) for axes in figure.axes] == NAMES
    assert [axes.get_xlabel() for axes in figure.axes] == ["block depth"] * 3
    assert figure.get_suptitle() == "a title"
    assert "a note" in [in_one_line(text.get_text()) for text in figure.findobj(Text)]
    assert legend_of(figure) == ["BN", "NF", "prediction (darker)", "the paper's figure, digitised"]
    assert cut_off(figure) == []
    assert not overlaps(figure)


def test_lines_are_means_bands_are_ranges_and_dots_are_ends_of_stages() -> None:
    figure = draw_propagation({"BN": curve(seeds=3)}, "t", "n", [PaperCurve("BN", "avg_var", (6,), (9.0,))])
    variance = figure.axes[1]
    data = [(list(line.get_xdata()), list(line.get_ydata())) for line in variance.lines]
    blocks = [1, 2, 3, 4, 5, 6]
    assert (blocks, pytest.approx([2.1, 3.1, 4.1, 5.1, 6.1, 7.1])) in data  # 1 + b, seeds 0, 0.1, 0.2
    assert ([3, 6], pytest.approx([4.1, 7.1])) in data
    assert (blocks, pytest.approx([2.0, 3.0, 4.0, 5.0, 6.0, 7.0])) in data  # prediction
    assert ([6], [9.0]) in data
    (band,) = variance.collections
    corners = {(x, round(y, 6)) for x, y in band.get_paths()[0].vertices}
    assert {(1.0, 2.0), (1.0, 2.2), (6.0, 7.0), (6.0, 7.2)} <= corners
    assert ([6], [9.0]) not in [(list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[2].lines]
    for axes in figure.axes:
        low, high = axes.get_ylim()
        top = max(float(np.max(line.get_ydata())) for line in axes.lines)
        assert low <= 0
        assert top < high < 1.3 * top


def test_a_prediction_has_a_darker_shade_of_the_colour_of_its_curve() -> None:
    figure = draw_propagation({"BN": curve(), "NF": curve(slope=2.0)}, "t", "n")
    lines = {round(float(line.get_ydata()[-1]), 6): line for line in figure.axes[1].lines if len(line.get_xdata()) == 6}
    for measured, predicted in ((7.05, 7.0), (13.05, 13.0)):  # of BN and of NF, after the last block
        light, dark = (np.array(to_rgb(lines[value].get_color())) for value in (measured, predicted))
        assert dark.max() > 0
        assert dark / dark.max() == pytest.approx(light / light.max())
        assert dark.sum() < 0.7 * light.sum()


def test_curves_are_told_apart() -> None:
    figure = draw_propagation({name: curve(slope=k) for k, name in enumerate("abcdefghi")}, "t", "n")
    (legend,) = figure.legends
    looks = [(h.get_color(), h.get_linestyle(), h.get_marker()) for h in legend.legend_handles[:9]]  # type: ignore[union-attr]
    assert len(set(looks)) == 9


def test_one_seed_has_a_band_of_no_width_and_the_same_line() -> None:
    figure = without_warnings(draw_propagation({"BN": curve(seeds=1)}, "t", "n"))
    assert list(figure.axes[0].lines[0].get_ydata()) == [1, 2, 3, 4, 5, 6]


def test_without_predictions_none_is_drawn_or_promised() -> None:
    figure = without_warnings(draw_propagation({"BN": curve(predicted=False)}, "t", "n"))
    assert legend_of(figure) == ["BN"]
    assert {len(axes.lines) for axes in figure.axes} == {2}
    mixed = without_warnings(draw_propagation({"a": curve(predicted=False), "b": curve()}, "t", "n"))
    assert legend_of(mixed) == ["a", "b", "prediction (darker)"]


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("what", ["one block", "one statistic", "everything"])
def test_what_was_not_measured_leaves_a_gap(what: str, logarithmic: bool) -> None:
    rows = curve(predicted=False)
    missing = {"one block": rows["block"] == 2, "one statistic": rows["statistic"] == "res_var"}
    rows.loc[missing.get(what, rows["block"] > 0), "measured"] = np.nan
    figure = without_warnings(draw_propagation({"a": rows}, "t", "n", logarithmic=logarithmic))
    assert all(np.isfinite(axes.get_ylim()).all() for axes in figure.axes)
    assert cut_off(figure) == []
    if what == "one block":
        assert np.isnan(figure.axes[1].lines[0].get_ydata()).tolist() == [False, True] + [False] * 4


def test_logarithmic_axes() -> None:
    rows = curve(predicted=False)
    rows.loc[rows["statistic"] == "avg_sq_mean", "measured"] = 0.0
    figure = without_warnings(draw_propagation({"a": rows}, "t", "n", logarithmic=True))
    assert [axes.get_yscale() for axes in figure.axes] == ["symlog", "log", "log"]
    assert {axes.get_yscale() for axes in draw_propagation({"a": rows}, "t", "n").axes} == {"linear"}


@pytest.mark.parametrize("count", [1, 4, 9])
def test_many_curves_fit(count: int) -> None:
    curves = {f"torchvision:wide_resnet{number}_2": curve(slope=number) for number in range(count)}
    figure = without_warnings(draw_propagation(curves, "t", "n"))
    assert legend_of(figure) == [*curves, "prediction (darker)"]
    assert cut_off(figure) == []
    assert not overlaps(figure)
    assert min(axes.get_window_extent().height for axes in figure.axes) > 100  # pixels, at 100 dpi


def test_the_command_lines_title_fits() -> None:
    # As `spp` makes it of four networks.
    names = [f"torchvision:wide_resnet{number}_2" for number in range(50, 54)]
    figure = draw_propagation(dict.fromkeys(names, curve()), "Signal propagation: " + ", ".join(names), "n")
    assert cut_off(figure) == []


def test_a_long_note_fits() -> None:
    failed = pd.DataFrame(
        {"state": ["failed"] * 3, "id": [f"bn_resnet600-gaussian512-seed{k}-0123456789" for k in (0, 1, 2)]}
    )
    note = (
        "N(0, 1) input, 512 px, batch 16, float32; line: mean of n = 5 initialisations, band: their range."
        + unfinished(failed)
    )
    figure = draw_propagation({"BN": curve(), "NF": curve()}, "t", note)
    assert cut_off(figure) == []
    assert not overlaps(figure)


def test_equal_numbers_make_equal_files(tmp_path: Path) -> None:
    def draw(name: str, slope: float = 1.0) -> list[bytes]:
        paths = save_figure(draw_propagation({"BN": curve(slope=slope)}, "t", "n"), tmp_path / name)
        assert [path.name for path in paths] == [f"{name}.png", f"{name}.pdf"]
        return [path.read_bytes() for path in paths]

    first = draw("a.b")
    assert draw("c") == first
    assert draw("d", slope=2.0) != first
    with Image.open(tmp_path / "c.png") as image:
        assert image.width == 7 * 200
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 20


def test_a_png_keeps_colours_that_few_pixels_have(tmp_path: Path) -> None:
    figure = draw_propagation({name: curve(slope=k) for k, name in enumerate("abcdefg")}, "t", "n")
    true = io.BytesIO()
    figure.savefig(true, format="png")
    (path,) = save_figure(figure, tmp_path / "a", [".png"])
    drawn, stored = (np.asarray(Image.open(of).convert("RGB")).astype(int) for of in (true, path))
    assert drawn.shape == stored.shape
    assert np.abs(drawn - stored).max() < 40  # of 255


def runs(folder: Path) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "id": ["a-0", "a-1", "b-0", "b-1"],
            "state": ["completed"] * 3 + ["failed"],
            "seed": [0, 1, 0, 1],
            "arm": list("aabb"),
        }
    )
    for name, seed in (("a-0", 0), ("a-1", 1), ("b-0", 0)):
        (folder / name).mkdir()
        curve(seeds=1).assign(seed=seed).to_csv(folder / name / "propagation.csv", index=False)
    return table


def test_curves_of_completed_runs_are_read(tmp_path: Path) -> None:
    curves = read_curves(runs(tmp_path), tmp_path, lambda row: f"arm {row['arm']}")
    assert {name: len(rows) for name, rows in curves.items()} == {"arm a": 36, "arm b": 18}
    assert set(curves["arm a"]["seed"]) == {0, 1}


def test_a_run_without_its_curves_says_what_to_do(tmp_path: Path) -> None:
    table = runs(tmp_path)
    (tmp_path / "a-1" / "propagation.csv").unlink()
    with pytest.raises(ValueError, match=r"a-1/propagation\.csv: cannot be read .*--force 'a-1'"):
        read_curves(table, tmp_path, lambda row: "all")


def test_unfinished_runs_are_named(tmp_path: Path) -> None:
    table = runs(tmp_path)
    assert unfinished(table) == " Not drawn, because not completed: b-1."
    assert unfinished(table[:3]) == ""


def test_runs_that_were_not_run_are_told_from_those_that_failed() -> None:
    table = pd.DataFrame({"id": [f"run-{k}" for k in range(6)], "state": ["missing"] * 4 + ["failed", "completed"]})
    assert unfinished(table) == " Not run: 4 of 6 runs. Not drawn, because not completed: run-4."
    assert unfinished(table[2:4]) == " Not run: run-2, run-3."


def test_the_table_of_stage_ends_by_hand() -> None:
    paper = [PaperCurve("NF", "avg_var", (6,), (7.25,))]
    rows = stage_ends({"NF": curve(seeds=2)}, paper)
    assert [(row["after block"], row["statistic"]) for row in rows] == [
        (block, name) for block in ("3", "6") for name in ("squared mean", "variance", "residual variance")
    ]
    # 7.0 and 7.1: t(0.975, 1) * 0.0707 / sqrt(2) = 12.706 * 0.05.
    assert rows[4] == {
        "network": "NF",
        "after block": "6",
        "statistic": "variance",
        "measured": "7.050 ± 0.635",
        "n": "2",
        "predicted": "7.000",
        "paper's figure": "7.25",
    }
    assert {row["paper's figure"] for row in rows} == {"", "7.25"}
    (alone, *_) = stage_ends({"NF": curve(seeds=1, predicted=False)})
    assert (alone["measured"], alone["n"], alone["predicted"]) == ("3.000 (n = 1, no interval)", "1", "")


def test_the_seeds_that_are_drawn_are_counted() -> None:
    ten, four = (pd.DataFrame({"seed": [seed for seed in range(n) for _ in range(3)]}) for n in (10, 4))
    assert seeds_drawn({"BN": ten, "NF": ten}) == "10"
    assert seeds_drawn({"BN": ten, "NF": four}) == "4 to 10"
    assert seeds_drawn({}) == "0"
