"""Every script of a training experiment, on tables of its own experiment with made-up numbers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from project_scripts import script

from nfrepro.errors import InputError
from nfrepro.plots.comparison import read_arms
from nfrepro.plots.script import Analysis, compared
from nfrepro.runs.table import collect, read_table, table_path, write_table
from nfrepro.specs import expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

ROOT = Path(__file__).parents[2]
SCRIPTS = (
    "pilot",
    "activations",
    "alpha_ablation",
    "augmentation",
    "beta",
    "bn_order",
    "deep_stability",
    "figure_3",
    "group_norm",
    "group_width",
    "large_batch",
    "regularization",
    "skipinit_gain",
    "table_1",
    "table_2",
    "weight_decay_mask",
    "weight_standardization",
)
# Name of a script -> of its comparison; others are called COMPARISON.
COMPARISONS = {"deep_stability": "RATES", "figure_3": "TABLE"}


def made_up(name: str, scale: str, results: Path) -> pd.DataFrame:
    """The table that `collect` would write: one run diverged, one failed, one is missing."""
    runs = expand(load_experiment(name, ROOT / "experiments"), scale, SCHEMAS)
    table = collect(results, name, scale, runs)
    table["top1"] = np.linspace(60, 80, len(table)).round(2)
    table["state"] = "completed"
    for row, state in enumerate(("diverged", "failed", "missing")[: len(table) - 1]):
        table.loc[row, ["state", "top1"]] = [state, np.nan]
    return read_table(write_table(table_path(results, name, scale), table))


def analyse(name: str, scale: str, results: Path, table: pd.DataFrame) -> dict[str, bytes]:
    """Calls the script in this process; its files by name."""
    module = script(name)
    call = getattr(module, "analyse", None) or compared(
        getattr(module, "comparison", None) or module.COMPARISON,
        learning_curves=name in ("large_batch", "regularization"),
    )
    paths = call(Analysis(name, scale, table, results / name / scale / name, results / "runs"))
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_files_counts_and_bytes(name: str, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = made_up(name, "laptop", results)
    files = analyse(name, "laptop", results, table)
    assert set(files) == {f"{name}.md", f"{name}.png", f"{name}.pdf"}
    with Image.open(results / name / "laptop" / f"{name}.png") as image:
        assert image.width in (680, 1400)  # a column or a page
    text = files[f"{name}.md"].decode()
    assert text.strip() in capsys.readouterr().out
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    heading, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]
    counted = {column: sum(int(row[heading.index(column)]) for row in rows) for column in ("n", "diverged")}
    without = [sum(int(row[heading.index(of)]) for row in rows) for of in ("failed or unfinished", "not run")]
    # n of the map of collapses is of all runs that ended.
    ended = counted["n"] if name == "deep_stability" else counted["n"] + counted["diverged"]
    assert (ended, counted["diverged"], without) == (len(table) - 2, 1, [1, 1])
    assert "scale laptop" in text
    assert "Student t interval" in text
    if name in ("table_1", *COMPARISONS):  # one of each kind
        assert analyse(name, "laptop", results, table) == files


@pytest.mark.parametrize("scale", ["smoke", "overnight", "gpu", "paper"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_scale_of_the_experiment_can_be_compared(name: str, scale: str, results: Path) -> None:
    """An experiment varies nothing but what its script compares."""
    if scale not in load_experiment(name, ROOT / "experiments").scales:
        pytest.skip(f"{name} has no scale {scale}")
    module, table = script(name), made_up(name, scale, results)
    families = [runs for _, runs in table.groupby("model.name")] if name == "deep_stability" else [table]
    for runs in families:  # each of the families of deep_stability has a figure of its own
        chosen = getattr(module, "comparison", None)
        comparison = chosen(runs) if chosen else getattr(module, COMPARISONS.get(name, "COMPARISON"))
        assert sum(len(arm.ids) for arm in read_arms(comparison, runs, "runs.csv")) == len(runs)


@pytest.mark.slow
def test_smoke_with_one_seed_and_learning_curves(results: Path) -> None:
    table = made_up("regularization", "smoke", results)
    for name in table["id"]:
        folder = results / "runs" / name
        folder.mkdir(parents=True)
        rows = [f'{{"epoch": {n}, "train_top1": {10 * n}, "test_top1": {9 * n}}}\n' for n in (1, 2)]
        (folder / "metrics.jsonl").write_text("".join(rows))
    files = analyse("regularization", "smoke", results, table)
    assert {"regularization_epochs.png", "regularization_epochs.pdf"} < set(files)
    assert "(n = 1, no interval)" in files["regularization.md"].decode()


@pytest.mark.parametrize("name", ["table_2", "deep_stability"])
def test_mixed_precision_is_refused_with_table_and_column(name: str, results: Path) -> None:
    table = made_up(name, "laptop", results)
    table.loc[5, "train.precision"] = "bfloat16"
    with pytest.raises(InputError, match=r"runs.csv: runs that differ in train.precision \(bfloat16, float32\)"):
        analyse(name, "laptop", results, table)


def test_the_papers_numbers(results: Path) -> None:
    files = analyse("table_2", "laptop", results, made_up("table_2", "laptop", results))
    text = files["table_2.md"].decode()
    assert "| 4 | BN |" in text
    for line in text.splitlines():
        if line.startswith("| "):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            expected = {("4", "NF"): "69.9 (second hand)", ("4", "BN"): "55.7 (second hand)"}
            if cells[0] not in ("batch size", "---"):
                assert cells[-1] == expected.get((cells[0], cells[1]), "")
    files = analyse("table_1", "laptop", results, made_up("table_1", "laptop", results))
    assert "regularised, 288, NF: 79.5 (second hand)" in files["table_1.md"].decode()


def test_multiply_adds_of_the_papers_networks(results: Path) -> None:
    """At scale paper the count is that of figure 3 (NF-RegNet) and of EfficientNet's own paper, to 2 %."""
    table = made_up("figure_3", "paper", results)
    counted = {
        row["model.name"]: script("figure_3").multiply_adds(row, Path("runs.csv")) / 1e9
        for _, row in table[table["model.variant"] == "b0"].iterrows()
    }
    assert counted["nf_regnet"] == pytest.approx(0.44, rel=0.02)
    assert counted["efficientnet"] == pytest.approx(0.39, rel=0.02)
