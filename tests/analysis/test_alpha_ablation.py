"""The script that draws alpha_ablation, run on tables written here."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from in_this_process import script_here
from PIL import Image

ROOT = Path(__file__).parents[2]


def table(**changes: object) -> pd.DataFrame:
    rows = [
        {
            "id": f"{alpha}-{seed}",
            "state": "completed",
            "in_experiment": True,
            "seed": seed,
            "data.name": "fashion_mnist",
            "data.train_images": 20000,
            "model.name": "nf_resnet",
            "model.alpha": alpha,
            "model.depth": 20,
            "model.width": 0.25,
            "train.epochs": 2,
            "train.batch_size": 64,
            "train.precision": "float32",
            "top1": 80.0 + seed + 10 * alpha,
            "provenance.data": "Fashion-MNIST",
            "provenance.data_fingerprint": "abc",
        }
        for alpha in (0.1, 0.2, 1.0)
        for seed in (0, 1, 2)
    ]
    return pd.DataFrame(rows).assign(**changes)


def run_script(results: Path, content: pd.DataFrame | None) -> "subprocess.CompletedProcess[str]":
    folder = results / "alpha_ablation" / "laptop"
    folder.mkdir(parents=True, exist_ok=True)
    if content is not None:
        content.to_csv(folder / "runs.csv", index=False)
    return script_here("alpha_ablation", "--results", str(results))


def outputs(results: Path) -> dict[str, bytes]:
    folder = results / "alpha_ablation" / "laptop"
    return {path.suffix: path.read_bytes() for path in folder.glob("alpha_ablation.*")}


def test_table_figure_and_paths(results: Path) -> None:
    called = run_script(results, table())
    assert called.returncode == 0, called.stderr
    # Seeds give 81, 82, 83 at alpha 0.1: mean 82, t(0.975, 2) / sqrt(3) = 2.48.
    assert "| 0.1 | 82.00 ± 2.48 | 3 | 0 | 0 |" in called.stdout
    assert "95 % Student t interval over seeds" in called.stdout
    assert set(outputs(results)) == {".md", ".png", ".pdf"}
    for path in (results / "alpha_ablation" / "laptop").glob("alpha_ablation.*"):
        assert str(path) in called.stdout
    with Image.open(results / "alpha_ablation" / "laptop" / "alpha_ablation.png") as image:
        assert image.size[0] == 680


def test_drawn_twice_it_is_the_same_byte_for_byte(results: Path) -> None:
    run_script(results, table())
    first = outputs(results)
    line = [sys.executable, str(ROOT / "analysis" / "alpha_ablation.py"), "--results", str(results)]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)  # another process, another time
    assert outputs(results) == first


def test_diverged_failed_and_missing_runs_are_counted(results: Path) -> None:
    content = table()
    content.loc[content["model.alpha"] == 1.0, ["state", "top1"]] = ["diverged", None]
    content.loc[0, ["state", "top1"]] = ["failed", None]
    content.loc[4, ["state", "top1"]] = ["missing", None]
    called = run_script(results, content)
    assert called.returncode == 0, called.stderr
    assert "| 0.1 | 82.50 ± 6.35 | 2 | 0 | 1 | 0 |" in called.stdout
    assert "| 0.2 | 83.00 ± 12.71 | 2 | 0 | 0 | 1 |" in called.stdout
    assert "| 1 | n = 0 | 0 | 3 | 0 | 0 |" in called.stdout


@pytest.mark.parametrize("state", ["missing", "failed", "diverged"])
def test_a_table_without_any_number_still_draws(results: Path, state: str) -> None:
    called = run_script(results, table(state=state, top1=None))
    assert called.returncode == 0, called.stderr
    assert called.stdout.count("n = 0") == 3


def test_rows_outside_the_experiment_are_left_out(results: Path) -> None:
    content = table()
    content.loc[content["seed"] == 2, "in_experiment"] = False
    assert "| 0.1 | 81.50 ± 6.35 | 2 | 0 | 0 |" in run_script(results, content).stdout


def test_runs_on_different_data_are_never_averaged(results: Path) -> None:
    content = table()
    content.loc[0, "provenance.data_fingerprint"] = "other"
    called = run_script(results, content)
    assert called.returncode == 2
    assert "runs on different data cannot share a table" in called.stderr
    assert len(called.stderr.splitlines()) == 1


def test_a_missing_table_says_what_to_do(results: Path) -> None:
    called = run_script(results, None)
    assert called.returncode == 2
    assert "run `make sweep EXP=alpha_ablation SCALE=laptop`" in called.stderr


def test_what_the_script_draws_no_more_is_removed_and_nothing_else(results: Path) -> None:
    """Not the table of the runs, nor what a sweep with overrides has drawn, nor files of somebody."""
    folder = results / "alpha_ablation" / "laptop"
    folder.mkdir(parents=True)
    spared = {"alpha_ablation-seed=0.png", "alpha_ablation_note.txt", "notes.md", "runs.csv"}
    for name in (*spared, "alpha_ablation_epochs.png", "alpha_ablation.svg"):
        (folder / name).touch()
    called = run_script(results, table())
    said = "removed, since the script draws them no more: alpha_ablation.svg, alpha_ablation_epochs.png"
    assert called.stdout.splitlines()[-1] == said
    assert {path.name for path in folder.iterdir()} == {
        f"alpha_ablation.{end}" for end in ("md", "png", "pdf")
    } | spared
    assert "removed" not in run_script(results, table()).stdout
