"""The script that draws gradient_correlation, on runs made up here."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from project_scripts import script

from nfrepro.errors import InputError
from nfrepro.plots.script import Analysis

ROOT = Path(__file__).parents[2]
NAME = "gradient_correlation"
DEPTHS = [1, 2, 4, 8]
FILES = {f"{NAME}{part}{ending}" for part in ("", "_distances", "_resnets") for ending in (".png", ".pdf")}


def row(name: str, depth: int, seed: int, correlation: float, **options: Any) -> dict[str, Any]:
    return {
        "id": f"{name}-{'-'.join(map(str, options.values()))}-{depth}-{seed}",
        "state": "completed",
        "in_experiment": True,
        "seed": seed,
        "inputs": 8,
        "draws": 20,
        "model.name": name,
        "model.depth": depth,
        **{f"model.{key}": value for key, value in options.items()},
        "gradient_correlation": correlation,
        "neighbour_autocorrelation": 0.5,
    }


def table() -> pd.DataFrame:
    """Plain networks that lose 0.6 or, the second seed, 0.5 a layer; residual ones that fall as 1 / sqrt; a ResNet."""
    plain = {"connection": "plain", "normalization": "none", "alpha": 1.0}
    residual = {"connection": "residual", "normalization": "batch_norm", "alpha": 0.2}
    rows = []
    for depth in DEPTHS:
        for seed, rate in enumerate((0.6, 0.5)):
            rows.append(row("fully_connected", depth, seed, rate**depth, **plain))
            rows.append(row("fully_connected", depth, seed, depth**-0.5, **residual))
            rows.append(row("bn_resnet", depth, seed, 0.9**depth))
    return pd.DataFrame(rows)


def write(results: Path, content: pd.DataFrame) -> Path:
    folder = results / NAME / "laptop"
    folder.mkdir(parents=True, exist_ok=True)
    content.to_csv(folder / "runs.csv", index=False)
    curve = pd.DataFrame(
        {"degrees": [0, 45, 90, 135, 180], "correlation": 0.5, "autocorrelation": np.linspace(1, -1, 5)}
    )
    for name in content.loc[content["model.name"] == "fully_connected", "id"]:
        run = results / "runs" / name
        run.mkdir(parents=True, exist_ok=True)
        curve.to_csv(run / "autocorrelation.csv", index=False)
    return folder


def analysed(results: Path, monkeypatch: pytest.MonkeyPatch, save: bool = False) -> tuple[dict[str, list[str]], str]:
    """Network -> the other cells of its row, and the note, from the script called in this process."""
    module = script(NAME)
    if not save:
        monkeypatch.setattr(module, "save_figure", lambda figure, path: [])
    folder = results / NAME / "laptop"
    (path, *_) = module.analyse(
        Analysis(NAME, "laptop", pd.read_csv(folder / "runs.csv"), folder / NAME, results / "runs")
    )
    text = path.read_text()
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")][2:]
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}, text


@pytest.mark.slow
def test_table_figures_and_paths(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(results, table())
    line = [sys.executable, str(ROOT / "analysis" / f"{NAME}.py"), "--results", str(results)]
    called = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert called.returncode == 0, called.stderr
    first = {path.name: path.read_bytes() for path in folder.glob(f"{NAME}*")}
    assert set(first) == FILES | {f"{NAME}.md"}
    for name in first:
        assert str(folder / name) in called.stdout
    with Image.open(folder / f"{NAME}_distances.png") as image:
        assert image.width >= 1000
    # Another process, another time: the same bytes.
    found, text = analysed(results, monkeypatch, save=True)
    assert {path.name: path.read_bytes() for path in folder.glob(f"{NAME}*")} == first
    assert list(found) == ["plain", "residual, BN, alpha 0.2", "BN-ResNet"]
    # Of the second seed the deepest is lost in noise, and three depths are no fit.
    of_one = "(n = 1, no interval) (1 of 2 seeds)"
    assert found["plain"][:2] == [f"0.600 {of_one}", f"1.000 {of_one}"]
    assert found["plain"][4:] == ["8", "0.010 ± 0.082", "0.500 ± 0.000", "8"]
    assert found["residual, BN, alpha 0.2"][2:4] == ["0.500 ± 0.000", "1.000 ± 0.000"]
    assert found["BN-ResNet"][0] == "0.900 ± 0.000"
    assert "n = 2 runs" in text


def test_runs_that_are_still_to_come_are_not_counted(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = table()
    content.loc[(content["seed"] == 1) & (content["model.depth"] == 8), "state"] = "missing"
    write(results, content)
    assert "n = 1 to 2 runs a network" in analysed(results, monkeypatch)[1]


def test_failed_and_diverged_runs_are_said(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = table()
    numbers = ["state", "gradient_correlation", "neighbour_autocorrelation"]
    content.loc[0, numbers] = ["failed", None, None]
    content.loc[1, numbers] = ["diverged", None, None]
    write(results, content)
    found, text = analysed(results, monkeypatch)
    assert found["plain"][-1] == "7"
    assert found["residual, BN, alpha 0.2"][-1] == "7, 1 diverged"
    assert f"not completed: {content.loc[0, 'id']}, {content.loc[1, 'id']}" in text


@pytest.mark.parametrize("name", ["fully_connected", "bn_resnet"])
def test_some_arms_alone_are_drawn(results: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    content = table()
    write(results, content[content["model.name"] == name])
    assert len(analysed(results, monkeypatch)[0]) == (2 if name == "fully_connected" else 1)


def test_lost_curves_say_what_to_do(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(results, table())
    lost = results / "runs" / table().loc[0, "id"] / "autocorrelation.csv"
    lost.unlink()
    with pytest.raises(InputError, match=rf"{lost}: cannot be read .* redo the run with --force '{lost.parent.name}'"):
        analysed(results, monkeypatch)


def test_without_a_completed_run_it_says_so(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(results, table().assign(state="failed"))
    with pytest.raises(InputError, match="no run is completed: Not drawn"):
        analysed(results, monkeypatch)
