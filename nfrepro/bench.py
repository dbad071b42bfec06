"""Benchmarks, by subject. Machines are noisy: medians of interleaved repetitions, and ratios within one run."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nfrepro.specs import expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

if TYPE_CHECKING:
    import torch

REPETITIONS = 5
MODEL_STEPS = 8
OURS, FOLDED = "ours nf_resnet50", "ours nf_resnet50, folded"
MANY_RUNS = """\
title: ten thousand runs
task: train
set:
  data: {name: synthetic}
  model: {name: nf_resnet, depth: 50}
grid:
  model.alpha: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
  train.lr: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
  train.weight_decay: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
  seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
scales: {smoke: {}}
"""


def bench_specs() -> Iterator[str]:
    """Start of the command line, and expansion of 10,000 runs; goals: under 0.5 s and under 1 s."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "many.yaml"
        path.write_text(MANY_RUNS)
        measured: dict[str, list[float]] = {"python -c pass": [], "nfrepro --help": [], "expand 10,000 runs": []}
        for _ in range(REPETITIONS):
            measured["python -c pass"].append(_seconds(lambda: _command("-c", "pass")))
            measured["nfrepro --help"].append(_seconds(lambda: _command("-m", "nfrepro", "--help")))
            measured["expand 10,000 runs"].append(
                _seconds(lambda: expand(load_experiment(str(path), path.parent), "smoke", SCHEMAS))
            )
    for what, seconds in measured.items():
        yield (
            f"{what:20} median {statistics.median(seconds):.3f} s"
            f"  (min {min(seconds):.3f}, max {max(seconds):.3f}, n = {len(seconds)})"
        )


def _command(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def bench_models() -> Iterator[str]:
    """Training and inference of ResNet-50s: ours, timm's (the same network) and torchvision's with BatchNorm.

    Interleaved in one process on random images, bfloat16 autocast, channels-last; ratios step by step against ours.
    """
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch, pixels = (128, 224) if device.type == "cuda" else (16, 64)
    networks = _networks(device)
    x = torch.randn(batch, 3, pixels, pixels, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(1000, (batch,), device=device)
    threads = "" if device.type == "cuda" else f", {torch.get_num_threads()} threads"
    yield f"{device.type}{threads}, batch {batch}, {pixels} pixels, bfloat16, channels-last, eager, n = {MODEL_STEPS}"
    for mode, step in (("training", _train_step), ("inference", _infer)):
        seconds: dict[str, list[float]] = {name: [] for name in networks}
        for repetition in range(MODEL_STEPS + 1):
            for name, (network, optimizer) in networks.items():
                if name == FOLDED and mode == "training":
                    continue
                took = _seconds(partial(step, network, optimizer, x, labels))
                if repetition:  # the first is warm-up
                    seconds[name].append(took)
        for name, values in filter(lambda item: item[1], seconds.items()):
            ratios = [theirs / ours for theirs, ours in zip(values, seconds[OURS], strict=True)]
            yield (
                f"{mode:9} {name:32} {batch / statistics.median(values):8.1f} images/s"
                f"  ours is {statistics.median(ratios):.2f} x as fast (min {min(ratios):.2f}, max {max(ratios):.2f})"
            )


def _networks(device: "torch.device") -> "dict[str, tuple[torch.nn.Module, torch.optim.Optimizer]]":
    import timm
    import torch
    import torchvision

    from nfrepro.models import create, fold

    made: dict[str, torch.nn.Module] = {
        OURS: create("nf_resnet50"),
        FOLDED: fold(create("nf_resnet50")),
        "timm nf_resnet50": timm.create_model("nf_resnet50", pretrained=False),
        "torchvision resnet50 (BatchNorm)": torchvision.models.resnet50(),
    }
    for network in made.values():
        network.to(device).to(memory_format=torch.channels_last)
    return {
        name: (network, torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, nesterov=True))
        for name, network in made.items()
    }


def _train_step(
    network: "torch.nn.Module", optimizer: "torch.optim.Optimizer", x: "torch.Tensor", labels: "torch.Tensor"
) -> None:
    import torch

    network.train()
    with torch.autocast(x.device.type, torch.bfloat16):
        logits = network(x)
    loss = torch.nn.functional.cross_entropy(logits.float(), labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    loss.item()


def _infer(
    network: "torch.nn.Module", optimizer: "torch.optim.Optimizer", x: "torch.Tensor", labels: "torch.Tensor"
) -> None:
    import torch

    network.eval()
    with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16):
        network(x).sum().item()


SUBJECTS: dict[str, Callable[[], Iterator[str]]] = {"specs": bench_specs, "models": bench_models}
