"""A run on a folder of ImageNet's shape, from the command line to its record."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_experiment import Call

EXPERIMENT = """\
title: a very small ImageNet
claims: [C35]
task: train
set:
  data: {name: imagenet, randaugment_layers: 1, copies: 2, test_pixels: 40}
  model: {name: nf_resnet, blocks: [1, 1], width: 0.0625}
  train: {epochs: 2, batch_size: 8, lr_per_256: 0.1, warmup_epochs: 0.5}
  probe: {steps: [0, 3], images: 4}
scales: {smoke: {}}
"""
ROOT = Path(__file__).parents[2]
SMALL = ("--scale", "smoke", "--set", "data.classes=4", "--set", "data.pixels=32")


@pytest.fixture
def folder(experiments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (experiments / "small_imagenet.yaml").write_text(EXPERIMENT)
    monkeypatch.setenv("NFREPRO_DATA", str(tmp_path))
    random = np.random.default_rng(0)
    for split, count in (("train", 7), ("val", 2)):
        for label in range(4):
            path = tmp_path / "imagenet" / split / f"n{label:08}"
            path.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (48 + number, 64, 3), np.uint8)
                Image.fromarray(pixels).save(path / f"{number}.JPEG")
    return tmp_path / "imagenet"


@pytest.mark.slow
def test_a_run_reads_its_images_from_their_files(nfrepro: Call, folder: Path, results: Path) -> None:
    (run,) = json.loads(nfrepro("expand", "small_imagenet", "--json", *SMALL).stdout)
    assert run["config"]["data"]["crop"] == "inception"
    called = nfrepro("run", "small_imagenet", run["id"], *SMALL)
    assert called.returncode == 0, called.stderr
    (record,) = results.rglob("run.json")
    written = json.loads(record.read_text())
    assert (written["status"], written["final"]["steps"], written["provenance"]["data"]) == ("completed", 6, "ImageNet")
    assert len(record.with_name("metrics.jsonl").read_text().splitlines()) == 2
    assert record.with_name("propagation.csv").exists()


@pytest.mark.slow
def test_a_damaged_file_fails_the_run_by_name(nfrepro: Call, folder: Path, results: Path) -> None:
    (folder / "val" / "n00000002" / "1.JPEG").write_text("not an image")
    called = nfrepro("sweep", "small_imagenet", *SMALL)
    assert called.returncode != 0
    (record,) = results.rglob("run.json")
    written = json.loads(record.read_text())
    assert written["status"] == "failed"
    assert "val/n00000002/1.JPEG: not a readable image" in written["error"]


def test_missing_classes_start_nothing(nfrepro: Call, folder: Path, results: Path) -> None:
    called = nfrepro("sweep", "small_imagenet", "--scale", "smoke", "--set", "data.pixels=32")
    assert called.returncode == 2
    assert len(called.stderr.splitlines()) == 1
    assert "4 class folders (n00000000, n00000001, n00000002, …) where data.classes is 1,000" in called.stderr
    assert not results.exists()


@pytest.mark.slow
def test_paper_scale_of_depth_runs_by_two_processes(nfrepro: Call, folder: Path, results: Path) -> None:
    small = ["--scale", "paper", "--set", "data.classes=4", "--set", "data.pixels=32", "--set", "model.width=0.0625"]
    small += ["--set", "train.batch_size=8", "--set", "train.grad_accum_steps=2", "--set", "train.epochs=1"]
    small += ["--set", "train.warmup_epochs=0", "--set", "model.depth=50", "--set", "seed=0"]
    small += ["--experiments", str(ROOT / "experiments")]
    called = nfrepro("sweep", "table_1", *small, "--processes", "2", "--jobs", "1", "--threads", "1")
    assert called.returncode == 0, called.stdout + called.stderr
    records = [json.loads(path.read_text()) for path in results.glob("runs/*/run.json")]
    assert {record["config"]["model"]["name"] for record in records} == {
        "bn_resnet",
        "nf_resnet",
        "skipinit_resnet",
        "fixup_resnet",
    }
    assert len(records) == 8
    assert {(record["status"], record["final"]["steps"]) for record in records} == {("completed", 3)}
    assert {record["provenance"]["processes"] for record in records} == {2}
