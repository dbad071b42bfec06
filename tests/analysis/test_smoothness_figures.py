"""The script that draws smoothness, on tables written here."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from project_scripts import script

from nfrepro.errors import InputError
from nfrepro.plots.script import Analysis
from nfrepro.plots.smoothness_figure import bands
from nfrepro.runs.table import collect, read_table, table_path, write_table
from nfrepro.specs import expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

ROOT = Path(__file__).parents[2]
LABELS = ["BN", "NF, Scaled WS", "NF without WS", "unnormalized"]
STEPS, LENGTHS = (4, 32, 375), {"learning_rate": (0.5, 4.0), "weight_norm": (0.001, 0.01)}


def along_gradient(roughness: float) -> pd.DataFrame:
    """A quadratic of that curvature, as the task writes it."""
    rows = [
        {"step": step, "ruler": ruler, "length": length, "distance": length, "loss": 2.0 - length / step}
        for step in STEPS
        for ruler, lengths in LENGTHS.items()
        for length in lengths
    ]
    table = pd.DataFrame(rows)
    return table.assign(
        gradient_change=roughness * table["distance"], start_loss=2.0, gradient_norm=0.5, weight_norm=10.0
    )


def surface(roughness: float) -> pd.DataFrame:
    coordinates = np.linspace(-1, 1, 5)
    first, second = np.meshgrid(coordinates, coordinates, indexing="ij")
    loss = 1.0 + roughness * (first**2 + second**2)
    return pd.DataFrame({"first": first.ravel(), "second": second.ravel(), "loss": loss.ravel()})


@pytest.fixture
def table(results: Path) -> pd.DataFrame:
    """The table that `collect` would write of scale laptop, and the files of its runs."""
    runs = expand(load_experiment("smoothness", ROOT / "experiments"), "laptop", SCHEMAS)
    content = collect(results, "smoothness", "laptop", runs).assign(state="completed")
    numbers = [*script("smoothness").LOGARITHMS, "landscape_rise", "top1"]
    content[numbers] = np.linspace(0, 1, len(content))[:, None] + np.arange(len(numbers))
    content["provenance.data"], content["provenance.data_fingerprint"] = "made-up images", "abc"
    for number, name in enumerate(content["id"]):
        folder = results / "runs" / name
        folder.mkdir(parents=True)
        along_gradient(10.0 ** (number // 5)).to_csv(folder / "smoothness.csv", index=False)
        surface(4.0 ** (number // 5)).to_csv(folder / "landscape.csv", index=False)
    return read_table(write_table(table_path(results, "smoothness", "laptop"), content))


def analyse(results: Path, table: pd.DataFrame) -> dict[str, bytes]:
    output = results / "smoothness" / "laptop" / "smoothness"
    return {
        path.name: path.read_bytes()
        for path in script("smoothness").analyse(Analysis("smoothness", "laptop", table, output, results / "runs"))
    }


def drawn(results: Path, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    save = script("smoothness").save_figure
    monkeypatch.setattr(
        script("smoothness"), "save_figure", lambda figure, path: figures.append(figure) or save(figure, path)
    )
    analyse(results, table)
    return figures


def texts(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text().split()) for text in figure.findobj(Text))


def test_files_and_bytes(results: Path, table: pd.DataFrame) -> None:
    files = analyse(results, table)
    assert set(files) == {
        "smoothness.md",
        *(f"smoothness{part}.{suffix}" for part in ("", "_landscape") for suffix in ("png", "pdf")),
    }
    with Image.open(results / "smoothness" / "laptop" / "smoothness.png") as image:
        assert image.width >= 1000
    assert analyse(results, table) == files


def test_the_table_has_a_row_for_each_network(results: Path, table: pd.DataFrame) -> None:
    text = analyse(results, table)["smoothness.md"].decode()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    assert [row[0] for row in rows[2:]] == LABELS
    assert {row[rows[0].index("n")] for row in rows[2:]} == {"5"}
    # Of 0, 1/19 … 4/19: mean 2/19, t(0.975, 4) / sqrt(5) = 1.2417 times the deviation 0.0832.
    assert rows[2][2] == "0.11 ± 0.10"
    assert "0.3 is a factor of 2" in text


def test_bands_reach_from_the_least_point_to_the_largest() -> None:
    two_seeds = pd.concat([along_gradient(2.0).assign(seed=0), along_gradient(8.0).assign(seed=1)])
    found = bands(two_seeds, "learning_rate").set_index(["quantity", "step"])
    loss = found.loc[("loss", 4)]
    assert (loss["low"], loss["high"], loss["line"]) == pytest.approx((1.0, 1.875, 2.0))
    # The geometric mean of both seeds' curvatures is 4.
    change = found.loc[("gradient_change", 32)]
    assert (change["low"], change["high"], change["line"]) == pytest.approx((2.0, 16.0, 16.0))
    assert found.loc[("beta", 375)].to_numpy(float) == pytest.approx([4.0, 4.0, 4.0])
    relative = bands(two_seeds, "weight_norm").set_index(["quantity", "step"])
    assert relative.loc[("gradient_change", 4)]["high"] == pytest.approx(4 * 0.01 / 0.5)
    assert relative.loc[("beta", 4)]["high"] == pytest.approx(4 * 10.0**2)


def test_what_is_not_finite_is_left_out_of_bands() -> None:
    one = along_gradient(2.0).assign(seed=0)
    other = along_gradient(8.0).assign(seed=1, gradient_change=np.inf, loss=np.inf)
    found = bands(pd.concat([one, other]), "learning_rate").set_index(["quantity", "step"])
    assert found.loc[("gradient_change", 4)]["high"] == pytest.approx(8.0)
    assert found.loc[("loss", 4)]["high"] == pytest.approx(1.875)


def test_every_network_is_drawn_on_one_scale(
    results: Path, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves, planes = drawn(results, table, monkeypatch)
    for label in LABELS:
        assert label in texts(curves)
        assert label in texts(planes)
    assert "made-up images" in texts(curves)
    assert "Seed 0" in texts(planes)
    lines = [line for line in curves.axes[2].lines if len(line.get_xdata()) == len(STEPS)]
    assert [line.get_ydata()[0] for line in lines] == pytest.approx([1.0, 10.0, 100.0, 1000.0])
    assert {axes.get_yscale() for axes in curves.axes[:6]} == {"log"}
    limits = {collection.norm.vmax for axes in planes.axes[:4] for collection in axes.collections[:1]}
    assert len(limits) == 1


def test_runs_that_did_not_complete_are_counted_and_named(
    results: Path, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.loc[0, "state"], table.loc[19, "state"] = "diverged", "failed"
    curves, planes = drawn(results, table, monkeypatch)
    text = (results / "smoothness" / "laptop" / "smoothness.md").read_text()
    assert "| 4 | 1 | 0 |" in text
    assert "| 4 | 0 | 1 |" in text
    for name in (table.loc[0, "id"], table.loc[19, "id"]):
        assert str(name) in texts(curves).replace(" ", "")
    assert "Seed 1," in texts(planes)  # the first that all networks have


@pytest.mark.parametrize("losses", [{0: np.inf, 1: np.nan}, dict.fromkeys(range(25), 1.05)], ids=["infinite", "flat"])
def test_odd_surfaces_are_drawn(losses: dict[int, float]) -> None:
    rows = surface(1.0)
    rows.loc[list(losses), "loss"] = list(losses.values())
    figure = script("smoothness").draw_landscapes({"odd": rows, "odder": rows}, "title", "note")
    figure.canvas.draw()
    assert texts(figure).count("in the middle") == 2


def test_nothing_completed_and_lost_files_are_a_line(results: Path, table: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="no run is completed"):
        analyse(results, table.assign(state="failed"))
    (results / "runs" / table.loc[0, "id"] / "landscape.csv").unlink()
    with pytest.raises(InputError, match=r"landscape.csv: cannot be read .* --force"):
        analyse(results, table)
