"""A sweep with nothing to run whose data on disk are no longer those of the stored runs."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_experiment import TINY, Call

from nfrepro.cli.changed_data import MEMORY, changed_data_lines
from nfrepro.data import fingerprints, sources
from nfrepro.data.options import ImageFolderOptions
from nfrepro.runs import store
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

DATA = "{name: image_folder, folder: flowers, pixels: 8, train_images: 4, crop_padding: 1}"
OPTIONS = ImageFolderOptions(folder="flowers", pixels=8, train_images=4, crop_padding=1)


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(path)


@pytest.fixture
def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of four training and two test images."""
    monkeypatch.setenv("NFREPRO_DATA", str(tmp_path / "data"))
    folder = tmp_path / "data" / "flowers"
    for number, name in enumerate(("train/a/1", "train/a/2", "train/b/1", "train/b/2", "test/a/1", "test/b/1")):
        draw(folder / f"{name}.png", number)
    return folder


@pytest.fixture
def runs(experiments: Path, results: Path, flowers: Path) -> list[Run]:
    """Four runs on them, all stored."""
    lines = [f"  data: {DATA}" if line.startswith("  data:") else line for line in TINY.splitlines()]
    (experiments / "tiny.yaml").write_text("\n".join(lines) + "\n")
    found = expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)
    fingerprint = sources.load(OPTIONS).fingerprint
    for run in found:
        folder = store.run_folder(results, run)
        folder.mkdir(parents=True)
        provenance = {"data": "image folder flowers", "data_fingerprint": fingerprint}
        result = {"status": "completed", "final": {"top1": 50.0}, "error": None, "provenance": provenance}
        store.write_record(folder, store.description_of(run) | result)
    return found


def said(results: Path, runs: list[Run]) -> list[str]:
    return list(changed_data_lines(results, runs))


def test_a_sweep_names_data_that_changed_and_the_runs_stored_with_the_former(
    nfrepro: Call, results: Path, flowers: Path, runs: list[Run]
) -> None:
    before = sources.load(OPTIONS).fingerprint
    called = nfrepro("sweep", "tiny", "--scale", "smoke")
    assert (called.returncode, "changed since" in called.stdout) == (0, False), called.stderr
    draw(flowers / "train" / "b" / "2.png", 99)
    called = nfrepro("sweep", "tiny", "--scale", "smoke")
    after = sources.load(OPTIONS).fingerprint
    assert after != before
    names = "; ".join(run.id for run in runs[:3])
    expected = f"fingerprint {after} today, {before} in 4 stored runs: {names} (and 1 more)"
    assert f"image folder flowers changed since: {expected}" in called.stdout.splitlines()
    assert called.returncode == 0


def test_it_is_computed_once_for_each_state_of_the_files(
    results: Path, flowers: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[int] = []
    load = sources.load
    monkeypatch.setattr(sources, "load", lambda options: loads.append(1) or load(options))
    assert said(results, runs) == said(results, runs) == []
    assert len(loads) == 1
    image = flowers / "train" / "a" / "1.png"
    os.utime(image, (1, 1))  # touched, but the same
    assert said(results, runs) == said(results, runs) == []
    assert len(loads) == 2
    draw(image, 77)
    assert [line.partition(":")[0] for line in said(results, runs)] == ["image folder flowers changed since"]
    assert said(results, runs) == said(results, runs)
    assert len(loads) == 3
    (results / MEMORY).write_text("[")  # a damaged memory is none
    assert len(said(results, runs)) == 1
    assert len(json.loads((results / MEMORY).read_text())) == 1


@pytest.mark.parametrize("limit", ["MOST_FILES", "MOST_BYTES"])
def test_a_large_data_set_is_not_read_in_passing(
    results: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(fingerprints, limit, 3)
    monkeypatch.setattr(sources, "load", pytest.fail)
    (line,) = said(results, runs)
    assert line.startswith("image folder flowers: not compared with the data of the stored runs")


def test_data_that_are_broken_or_gone(results: Path, flowers: Path, runs: list[Run]) -> None:
    (flowers / "test" / "b" / "1.png").unlink()
    (line,) = said(results, runs)
    assert line.startswith("image folder flowers: not the data of the stored runs any more: ")
    assert "test/b: no images" in line
    flowers.rename(flowers.parent / "others")
    assert said(results, runs) == []
