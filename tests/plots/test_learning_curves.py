"""Learning curves: the stored rows of every run, diverged ones as far as they came."""

import json
from pathlib import Path

import pytest
from test_comparison import BATCH
from test_propagation_figure import cut_off, overlaps, without_warnings
from training_table import training_table, without_result

from nfrepro.errors import InputError
from nfrepro.plots.comparison import read_arms
from nfrepro.plots.learning_curves import draw_learning_curves, read_learning_curves


def store_metrics(folder: Path, name: str, epochs: int, top1: float) -> None:
    (folder / name).mkdir(parents=True)
    rows = [
        {"epoch": n, "train_top1": top1 + n, "test_top1": top1 - n, "lr": 0.1, "test_loss": 1.0}
        for n in range(1, epochs + 1)
    ]
    (folder / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_means_and_seeds_over_epochs(tmp_path: Path) -> None:
    table = without_result(training_table(), "bn_resnet-64-2", "diverged")
    for name, seed in zip(table["id"], table["seed"], strict=True):
        store_metrics(tmp_path, name, 1 if name == "bn_resnet-64-2" else 3, 50 + seed)
    arms = read_arms(BATCH, table, "runs.csv")
    curves = read_learning_curves(tmp_path, arms)
    assert len(curves) == 11 * 3 + 1
    figure = without_warnings(draw_learning_curves(BATCH, arms, curves, "made up"))
    assert [axes.get_title() for axes in figure.axes[:2]] == ["batch size 4", "batch size 64"]
    # Second row, second column: BN over three seeds at first, then over the two that got so far.
    means = [list(line.get_ydata()) for line in figure.axes[3].lines if line.get_linewidth() > 1]
    assert means == [[50, 48.5, 47.5], [50, 49, 48]]
    assert not cut_off(figure)
    assert not overlaps(figure)


def test_runs_that_never_ran_have_none_and_damage_is_named(tmp_path: Path) -> None:
    arms = read_arms(BATCH, training_table(), "runs.csv")
    assert read_learning_curves(tmp_path, arms).empty
    store_metrics(tmp_path, "bn_resnet-4-0", 2, 50)
    (tmp_path / "bn_resnet-4-0" / "metrics.jsonl").write_text("{")
    with pytest.raises(InputError, match=r"metrics.jsonl: cannot be read"):
        read_learning_curves(tmp_path, arms)
