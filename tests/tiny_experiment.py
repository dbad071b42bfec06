"""A very small experiment on made-up images, and the command line as a user calls it."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

TINY = """\
title: a very small experiment
claims: [C35]
task: train
set:
  data: {name: synthetic, classes: 4, pixels: 8, train_images: 96, test_images: 32, crop_padding: 1}
  model: {name: nf_resnet, blocks: [1, 1], width: 0.0625, stem: small}
  train: {epochs: 2, batch_size: 16, lr_per_256: 0.5, warmup_epochs: 0.5}
grid:
  model.alpha: [0.2, 1.0]
  seed: [0, 1]
scales: {smoke: {}}
"""

Call = Callable[..., "subprocess.CompletedProcess[str]"]


def command(experiments: Path, results: Path, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command line, and its environment with both folders named in it."""
    environment = {
        "NFREPRO_DRAW": "0",
        **os.environ,
        "NFREPRO_EXPERIMENTS": str(experiments),
        "NFREPRO_RESULTS": str(results),
    }
    return [sys.executable, "-m", "nfrepro", *arguments], environment
