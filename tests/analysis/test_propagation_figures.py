"""The scripts that draw figure_1, figure_2 and signal_in_training, on runs of the smoke scale."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from in_this_process import nfrepro_here
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from project_scripts import script

from nfrepro.errors import InputError

ROOT = Path(__file__).parents[2]
# Made-up images in place of Fashion-MNIST, which is not on every machine.
TRAINING = ["--set", "data.name=synthetic", "--set", "seed=[0, 1]", "--set", "probe.steps=[0, 20, 40]"]
PROBES = ["--set", "seed=[0, 1]"]
EXPERIMENTS = {
    "figure_1": (PROBES, ["BN-ReLU-Conv", "ReLU-BN-Conv"]),
    "figure_2": (
        PROBES,
        ["ReLU-BN-Conv", "NF, He init", "NF, He init, no ReLU", "NF, He init, no ReLU, no max pool", "NF, Scaled WS"],
    ),
    "signal_in_training": (TRAINING, ["BN (BN-ReLU-Conv)", "NF (Scaled WS, alpha 0.2)"]),
}


@pytest.fixture(scope="module", params=EXPERIMENTS)
def swept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Name of the experiment, and the results of its smoke scale."""
    results = tmp_path_factory.mktemp(request.param)
    where, overrides = ("--scale", "smoke", "--results", str(results)), EXPERIMENTS[request.param][0]
    called = nfrepro_here("sweep", request.param, *where, *overrides, "--executor", "debug", "--threads", "1")
    assert called.returncode == 0, called.stdout + called.stderr
    return request.param, results


def run_script(name: str, results: Path) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, str(ROOT / "analysis" / f"{name}.py"), "--results", str(results), "--scale", "smoke"]
    return subprocess.run(
        [*line, *EXPERIMENTS[name][0]], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def drawn(
    name: str, results: Path, monkeypatch: pytest.MonkeyPatch, table: pd.DataFrame | None = None
) -> tuple[list[Path], Figure]:
    """Calls the script in this process; its files, and the figure that it saved."""
    from nfrepro.plots.script import Analysis

    module, folder = script(name), results / name / "smoke"
    figures: list[Figure] = []
    save = module.save_figure
    monkeypatch.setattr(module, "save_figure", lambda figure, path: figures.append(figure) or save(figure, path))
    content = stored_table(name, results) if table is None else table
    paths = list(module.analyse(Analysis(name, "smoke", content, folder / "drawn", results / "runs")))
    (figure,) = figures
    return paths, figure


def stored_table(name: str, results: Path) -> pd.DataFrame:
    (path,) = (results / name / "smoke").glob("runs*.csv")
    return pd.read_csv(path)


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def with_a_failure(name: str, results: Path, number: int) -> tuple[pd.DataFrame, str]:
    """The table with run `number` failed, as `collect` writes it: without what only a finished run knows."""
    table = stored_table(name, results)
    failed = str(table.loc[number, "id"])
    table.loc[number, "state"] = "failed"
    if "provenance.data" in table:
        table.loc[number, ["provenance.data", "provenance.data_fingerprint"]] = None
    return table, failed


@pytest.mark.slow
def test_files_and_bytes(swept: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    name, results = swept
    called = run_script(name, results)
    assert called.returncode == 0, called.stderr
    folder = results / name / "smoke"
    files = {path.suffix: path for path in folder.glob(f"{name}*")}
    assert set(files) == ({".png", ".pdf"} if name == "signal_in_training" else {".md", ".png", ".pdf"})
    for path in files.values():
        assert str(path) in called.stdout.splitlines()
    with Image.open(files[".png"]) as image:
        assert image.width >= 1000
    # Another process, another time: the same bytes.
    for path in drawn(name, results, monkeypatch)[0]:
        assert path.read_bytes() == files[path.suffix].read_bytes()


@pytest.mark.slow
def test_every_arm_and_panel_is_there(swept: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    name, results = swept
    _, figure = drawn(name, results, monkeypatch)
    labels = EXPERIMENTS[name][1]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][: len(labels)] == labels
    assert len(figure.axes) == (9 if name == "signal_in_training" else 3)
    assert "n = 2" in texts(figure)
    assert "smoke" in texts(figure)
    figure.canvas.draw()
    for text in [*figure.texts, *legend.findobj(Text)]:
        box = text.get_window_extent()
        assert box.x0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
    if name == "signal_in_training":
        assert [axes.get_title() for axes in figure.axes[:3]] == ["step 0", "step 20", "step 40"]
        # What the lines show is the mean over both seeds.
        table = stored_table(name, results)
        runs = table[table["model.name"] == "nf_resnet"]["id"]
        curves = [pd.read_csv(results / "runs" / run / "propagation.csv") for run in runs]
        expected = sum(rows.loc[rows["step"] == 20, "avg_var"].to_numpy() for rows in curves) / 2
        assert any(list(line.get_ydata()) == pytest.approx(list(expected)) for line in figure.axes[4].lines)


@pytest.mark.slow
def test_the_table_has_the_ends_of_all_stages(swept: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    name, results = swept
    if name == "signal_in_training":
        pytest.skip("it has no table")
    (path, *_), _ = drawn(name, results, monkeypatch)
    lines = [line for line in path.read_text().splitlines() if line.startswith("| ")][2:]  # without heading and rule
    labels = EXPERIMENTS[name][1]
    assert len(lines) == len(labels) * 4 * 3
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [cell[0] for cell in cells[::12]] == labels
    assert [cell[1] for cell in cells[:12:3]] == ["3", "6", "9", "12"]
    assert {cell[4] for cell in cells} == {"2"}
    # At this size the paper's own values have nothing to say.
    assert {cell[-1] for cell in cells} == {""}
    # The first arm by hand: the mean over its two runs of the variance after the third block.
    ids = stored_table(name, results)["id"].head(2)
    values = []
    for run in ids:
        rows = pd.read_csv(results / "runs" / run / "propagation.csv")
        values.append(float(rows[(rows["statistic"] == "avg_var") & (rows["block"] == 3)]["measured"].iloc[0]))
    variance = next(cell for cell in cells if cell[1:3] == ["3", "variance"])
    assert variance[3].startswith(f"{sum(values) / 2:.3f} ± ")


@pytest.mark.slow
def test_a_failed_run_is_mentioned(swept: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    name, results = swept
    table, failed = with_a_failure(name, results, len(stored_table(name, results)) - 1)
    paths, figure = drawn(name, results, monkeypatch, table)
    assert failed in "".join(texts(figure).split())
    assert "not completed" in " ".join(texts(figure).split())
    for path in paths:
        if path.suffix == ".md":
            assert failed in path.read_text()
            assert "| 1 |" in path.read_text()  # n of its arm


@pytest.mark.slow
def test_a_failed_first_run_spoils_no_title(swept: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    name, results = swept
    table, _ = with_a_failure(name, results, 0)
    _, figure = drawn(name, results, monkeypatch, table)
    assert "nan" not in texts(figure)


@pytest.mark.slow
def test_a_table_whose_runs_all_failed_is_no_traceback(
    swept: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, results = swept
    (tmp_path / name / "smoke").mkdir(parents=True)
    if name == "signal_in_training":  # without a run there are no steps to draw
        with pytest.raises(InputError, match="no run is completed"):
            drawn(name, tmp_path, monkeypatch, stored_table(name, results).assign(state="failed"))
        return
    paths, figure = drawn(name, tmp_path, monkeypatch, stored_table(name, results).assign(state="failed"))
    assert "not completed" in texts(figure)
    assert all(path.exists() for path in paths)


@pytest.mark.slow
def test_lost_curves_are_one_line_and_exit_2(swept: tuple[str, Path], tmp_path: Path) -> None:
    name, results = swept
    if name != "figure_1":
        pytest.skip("one script is enough")
    shutil.copytree(results, tmp_path / "results")
    lost = sorted((tmp_path / "results" / "runs").glob("*/propagation.csv"))[0]
    lost.unlink()
    called = run_script(name, tmp_path / "results")
    assert called.returncode == 2
    assert len(called.stderr.splitlines()) == 1
    assert f"{lost}: cannot be read" in called.stderr
    assert f"--force '{lost.parent.name}'" in called.stderr
