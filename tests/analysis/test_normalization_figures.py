"""The scripts that draw covariate_shift, nonlinearity and branch_variance, on made-up runs of their experiments."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from project_scripts import script

from nfrepro.errors import InputError
from nfrepro.plots.script import Analysis
from nfrepro.runs.table import collect, read_table, table_path, write_table
from nfrepro.specs import expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

ROOT = Path(__file__).parents[2]
STEPS, LAYERS = (0, 10, 20), (1, 2, 3)


def made_up(name: str, results: Path) -> pd.DataFrame:
    """The files that a sweep would leave: run n has numbers near n; in training one run and one network diverged."""
    runs = expand(load_experiment(name, ROOT / "experiments"), "laptop", SCHEMAS)
    table = collect(results, name, "laptop", runs)
    table["state"] = "completed"
    columns = ["top1", "train_top1", "mean_shift", "std_shift", "constant"]
    columns += [f"{when}_{share}" for when in ("first", "last") for share in ("active", "always_on", "dead")]
    for column in columns:
        table[column] = np.linspace(0.2, 0.8, len(table)).round(4)
    if name != "branch_variance":
        unhappy = (table["model.name"] == "unnormalized_resnet") | (table.index == 0)
        table.loc[unhappy, ["state", *columns]] = ["diverged", *[np.nan] * len(columns)]
    for _, row in table.iterrows():
        folder = results / "runs" / row["id"]
        folder.mkdir(parents=True)
        (folder / script(name).FILE).write_text(curves(name, row).to_csv(index=False))
        epochs = [f'{{"epoch": {n}, "train_top1": {10 * n}, "test_top1": {9 * n}}}\n' for n in (1, 2)]
        (folder / "metrics.jsonl").write_text("".join(epochs))
    return read_table(write_table(table_path(results, name, "laptop"), table))


def curves(name: str, row: pd.Series) -> pd.DataFrame:
    """The file of one run."""
    if name == "branch_variance":
        return propagation(row)
    rows: list[dict[str, Any]] = []
    for step in STEPS:
        for layer in LAYERS:
            shift = None if step == 0 else 0.1 * layer
            shares = {"active": 0.5, "always_on": 0.01 * layer, "dead": 0.001 * step}
            rows.append({"step": step, "layer": layer, "mean_shift": shift, "std_shift": shift, **shares})
    return pd.DataFrame(rows)


def propagation(row: pd.Series) -> pd.DataFrame:
    """An ideal network: branches of variance 3 (BN) or 1 (NF), added up block by block from 1 at each stage's start."""
    rows: list[dict[str, Any]] = []
    branch = 3.0 if row["model.name"] == "bn_resnet" else 1.0
    scale = row["model.alpha"] ** 2 if row["model.name"] == "nf_resnet" else 1.0
    counts = [int(count) for count in str(row["model.blocks"]).strip("[]").split(",")]
    block = 0
    for stage, count in enumerate(counts, 1):
        variance = branch if row["model.name"] == "bn_resnet" else 1.0
        for index in range(count):
            block += 1
            variance += scale * branch
            found = {"avg_var": variance, "res_var": branch}
            rows += [
                {"block": block, "stage": stage, "transition": index == 0, "statistic": key, "measured": value}
                for key, value in found.items()
            ]
    return pd.DataFrame(rows)


def analyse(name: str, results: Path, table: pd.DataFrame) -> dict[str, bytes]:
    """The files of the script by name."""
    paths = script(name).analyse(Analysis(name, "laptop", table, results / name / "laptop" / name, results / "runs"))
    return {path.name: path.read_bytes() for path in paths}


def table_of(text: str) -> list[dict[str, str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["covariate_shift", "nonlinearity"])
def test_files_networks_and_runs_without_a_result(name: str, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, figures = script(name), list[Figure]()
    save = module.save_figure
    monkeypatch.setattr(module, "save_figure", lambda figure, path: figures.append(figure) or save(figure, path))
    table = made_up(name, results)
    files = analyse(name, results, table)
    assert set(files) == {f"{name}{part}" for part in (".md", ".png", ".pdf", "_layers.png", "_layers.pdf")}
    for part in ("", "_layers"):
        with Image.open(results / name / "laptop" / f"{name}{part}.png") as image:
            assert image.width >= 1200
    assert analyse(name, results, table) == files
    rows = table_of(files[f"{name}.md"].decode())
    assert len(rows) == 4
    assert (rows[0]["n"], rows[0]["diverged"]) == ("4", "1")
    assert (rows[3]["network"], rows[3]["n"], rows[3]["diverged"]) == ("unnormalized", "0", "5")
    drawn = " ".join(text.get_text() for text in figures[0].findobj(Text))
    for row in rows:
        assert row["network"] in drawn
    assert "Not drawn, because not completed" in " ".join(drawn.split())


def test_numbers_of_an_arm_are_means_over_its_completed_seeds(results: Path) -> None:
    table = made_up("covariate_shift", results)
    rows = table_of(analyse("covariate_shift", results, table)["covariate_shift.md"].decode())
    nf = table[table["model.name"] == "nf_resnet"]
    noisy = table[table["noise"] == 1]
    for row, runs in (({r["network"]: r for r in rows}["NF (Scaled WS)"], nf), (rows[1], noisy)):
        assert float(row["shift of the mean"].split(" ± ")[0]) == pytest.approx(runs["mean_shift"].mean(), abs=6e-4)
    assert rows[1]["network"] == "BN with noise"
    assert rows[3]["shift of the mean"] == ""


def test_branches_of_ideal_networks_follow_the_closed_forms(results: Path) -> None:
    table = made_up("branch_variance", results)
    files = analyse("branch_variance", results, table)
    assert set(files) == {"branch_variance.md", "branch_variance.png", "branch_variance.pdf"}
    rows = table_of(files["branch_variance.md"].decode())
    assert len(rows) == 18
    expected = {"BN-ReLU-Conv": 1 / 24, "ReLU-BN-Conv": 1 / 24, "NF, alpha 0.2": 0.04 / 1.92, "NF, alpha 1": 1 / 24}
    for row in rows:
        measured = float(row["branch / skip variance, last block"].split(" ± ")[0])
        roots = float(row["branch / skip deviation, mean over blocks"].split(" ± ")[0])
        if row["network"] in expected:
            assert measured == pytest.approx(float(row["closed form"]), abs=6e-4)
            assert roots == pytest.approx(float(row["its closed form"]), abs=2e-3)
        if row["network"] in expected and row["blocks of a stage"] == "24":
            assert measured == pytest.approx(expected[row["network"]], abs=6e-5)
            whole = np.mean([1 / np.sqrt(block) for block in range(2, 25)])
            if row["network"] != "NF, alpha 0.2":
                assert roots == pytest.approx(whole, abs=6e-4)
        assert row["n"] == "5"


@pytest.mark.parametrize("name", ["covariate_shift", "nonlinearity", "branch_variance"])
def test_a_run_without_its_curves_is_named(name: str, results: Path) -> None:
    table = made_up(name, results)
    lost = table["id"][table["state"] == "completed"].iloc[0]
    (results / "runs" / lost / script(name).FILE).unlink()
    with pytest.raises(InputError, match=f"{script(name).FILE}: cannot be read .* redo the run with --force '{lost}'"):
        analyse(name, results, table)


@pytest.mark.parametrize("name", ["covariate_shift", "nonlinearity", "branch_variance"])
def test_without_a_completed_run_there_is_a_line(name: str, results: Path) -> None:
    table = made_up(name, results).assign(state="failed")
    with pytest.raises(InputError, match=f"{name}: no run is completed: Not drawn"):
        analyse(name, results, table)
