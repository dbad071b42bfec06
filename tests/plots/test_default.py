"""Table and figure of experiments that have no script of their own."""

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from tiny_experiment import TINY, Call
from training_table import training_table, without_result

from nfrepro.errors import InputError
from nfrepro.plots.default import analyse, arrange, find_factors
from nfrepro.plots.script import Analysis
from nfrepro.specs import identity

FINAL = {"top1": 70.0, "train_seconds": 3.0}


def drawn(table: pd.DataFrame, results: Path, final: dict[str, float] = FINAL) -> str:
    """The text of the table that is written with a figure in both formats."""
    configs = {name: {"name": name} for name in table["id"]}
    table = table.assign(id=[f"{name}-{identity('gain', configs[name])}" for name in table["id"]])
    for name in table.loc[table["state"] == "completed", "id"]:
        folder = results / "runs" / name
        folder.mkdir(parents=True)
        config = configs[name.rpartition("-")[0]]
        record = {"id": name, "task": "gain", "config": config, "status": "completed", "final": final}
        (folder / "run.json").write_text(json.dumps(record))
    output = results / "mine" / "laptop" / "mine"
    output.parent.mkdir(parents=True)
    paths = analyse(Analysis("mine", "laptop", table, output, results / "runs"))
    assert {path.name for path in paths} >= {"mine.md", "mine.png", "mine.pdf"}
    with Image.open(output.with_suffix(".png")) as image:
        assert image.width in (680, 1400)  # a column or a page
    return output.with_suffix(".md").read_text()


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_accuracies_by_what_runs_differ_in(results: Path) -> None:
    """The rate goes with the batch, and the order is of one family only: neither is an axis. Nor is the time."""
    table = without_result(training_table(), "bn_resnet-64-2", "missing")
    table["train.lr_per_256"] = table["train.batch_size"] / 256
    table["train_seconds"] = range(len(table))
    heading, *rows = cells(drawn(table, results))
    assert heading[:2] == ["train.batch_size", "model.name"]
    assert [row[:2] + row[3:] for row in rows] == [
        ["4", "bn_resnet", "3", "0", "0", "0"],
        ["4", "nf_resnet", "3", "0", "0", "0"],
        ["64", "bn_resnet", "2", "0", "0", "1"],
        ["64", "nf_resnet", "3", "0", "0", "0"],
    ]
    assert rows[0][2].startswith("61.00 ±")


def test_many_axes_share_the_lines(results: Path) -> None:
    parts = []
    for clip in (None, 0.01):
        for mixing in ("none", "mixup"):
            new = training_table().assign(**{"train.clip_factor": clip, "data.mixing": mixing})
            parts.append(new.assign(id=new["id"] + f"-{clip}-{mixing}"))
    table = pd.concat(parts, ignore_index=True)
    factors, others = find_factors(table, FINAL)
    assert {factor.name for factor in factors} == {
        "model.name",
        "train.batch_size",
        "train.clip_factor",
        "data.mixing",
    }
    comparison = arrange("mine", table, factors, others)
    assert comparison.axis.name == "train.batch_size"
    assert comparison.panel is not None
    _, *rows = cells(drawn(table, results))
    assert len(rows) == 16
    assert {row[-4] for row in rows} == {"3"}


def test_only_seeds(results: Path) -> None:
    table = training_table(batches=(4,))
    _, *rows = cells(drawn(table[table["model.name"] == "nf_resnet"], results))
    assert [row[0] for row in rows] == ["nf_resnet"]


def test_other_tasks_list_every_number_and_draw_the_first(results: Path) -> None:
    rows = [
        {
            "id": f"{size}-{seed}",
            "state": "completed",
            "in_experiment": True,
            "seed": seed,
            "size": size,
            "error_at_end": size / 10 + seed,
            "spread": 1.0,
        }
        for size in (4, 8)
        for seed in (0, 1)
    ]
    heading, *found = cells(drawn(pd.DataFrame(rows), results, {"error_at_end": 0.4, "spread": 1.0}))
    assert heading == ["size", "number", "mean", "n"]
    assert [row[:2] + row[3:] for row in found] == [
        [size, name, "2"] for size in ("4", "8") for name in ("error_at_end", "spread")
    ]
    assert found[0][2].startswith("0.9000 ±")


def test_without_a_completed_run_nothing_is_drawn(results: Path) -> None:
    table = training_table().assign(state="missing")
    with pytest.raises(InputError, match="mine: no run is completed"):
        drawn(table, results)


@pytest.mark.slow
def test_a_sweep_of_ones_own_file_draws_it(experiments: Path, results: Path, nfrepro: Call) -> None:
    (experiments / "mine.yaml").write_text(TINY)
    call = ("sweep", "mine", "--scale", "smoke", "--executor", "debug")
    swept = nfrepro(*call, "--set", "seed=[0]")  # --no-draw by NFREPRO_DRAW=0
    assert swept.returncode == 0
    assert not list((results / "mine" / "smoke").glob("*.pdf"))
    swept = nfrepro(*call, "--draw")
    assert swept.returncode == 0, swept.stderr
    assert "| 0.2 |" in swept.stdout
    assert (results / "mine" / "smoke" / "mine.pdf").exists()
    overridden = nfrepro(*call, "--draw", "--set", "seed=[0]")
    assert overridden.returncode == 0, overridden.stderr
    assert list((results / "mine" / "smoke").glob("mine?*.pdf"))


@pytest.mark.slow
def test_a_script_in_analysis_draws_its_experiment(experiments: Path, results: Path, nfrepro: Call) -> None:
    folder = experiments.parent / "analysis"
    folder.mkdir()
    (folder / "tiny.py").write_text("import sys\nprint('own script', sys.argv[1:])\nsys.exit(3)\n")
    swept = nfrepro("sweep", "tiny", "--scale", "smoke", "--executor", "debug", "--draw", "--set", "seed=[0]")
    assert f"own script ['--scale', 'smoke', '--results', '{results}', '--set=seed=[0]']" in swept.stdout
    assert swept.returncode == 3
