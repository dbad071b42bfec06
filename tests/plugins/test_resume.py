"""A network of one's own with AdamW, killed and continued: the bits of an undisturbed run."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_experiment import command

EXPERIMENT = """\
title: killed
claims: []
task: train
set:
  data: {name: synthetic, classes: 4, pixels: 8, train_images: 96, test_images: 32, crop_padding: 1}
  model: {name: "own_killed:Net", options: {width: 6}}
  train:
    epochs: 40
    batch_size: 16
    lr_per_256: 0.05
    warmup_epochs: 0.5
    optimizer: adamw
    weight_decay: 0.01
    ema_decay: 0.9
scales: {smoke: {}}
"""
NET = """\
import os
import time
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, width, in_channels):
        super().__init__(
            nn.Conv2d(in_channels, width, 3), nn.BatchNorm2d(width), nn.SiLU(), nn.Dropout(0.2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes),
        )

    def forward(self, x):
        if "OWN_SLOW" in os.environ:
            time.sleep(0.05)
        return super().forward(x)
"""


def record_in(results: Path) -> dict[str, Any]:
    (path,) = results.glob("runs/*/run.json")
    record: dict[str, Any] = json.loads(path.read_text())
    return record


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    experiments = tmp_path / "experiments"
    experiments.mkdir()
    (experiments / "killed.yaml").write_text(EXPERIMENT)
    (experiments / "own_killed.py").write_text(NET)
    sweep = ("sweep", "killed", "--scale", "smoke", "--executor", "debug", "--checkpoint-seconds", "0.2")

    line, environment = command(experiments, tmp_path / "undisturbed", sweep)
    subprocess.run(line, env=environment, check=True, capture_output=True)

    line, environment = command(experiments, tmp_path / "killed", sweep)
    process = subprocess.Popen(
        line, env=environment | {"OWN_SLOW": "1"}, stdout=subprocess.DEVNULL, start_new_session=True
    )
    ends = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("runs/*/checkpoint-*.pt")):
        assert process.poll() is None
        assert time.monotonic() < ends
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert record_in(tmp_path / "killed")["status"] == "running"
    subprocess.run(line, env=environment, check=True, capture_output=True)

    undisturbed, killed = record_in(tmp_path / "undisturbed"), record_in(tmp_path / "killed")
    assert killed["executions"] == 2
    assert killed["id"] == undisturbed["id"]
    assert killed["final"]["weights_sha256"] == undisturbed["final"]["weights_sha256"]
    assert killed["final"]["test_loss"] == undisturbed["final"]["test_loss"]
