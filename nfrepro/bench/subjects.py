"""Benchmarks, by subject. Machines are noisy: medians of interleaved repetitions, and ratios within one run."""

import importlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nfrepro.errors import InputError
from nfrepro.specs import expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

REPETITIONS = 5
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
    """Startup of the command line, and expansion of 10,000 runs; goals: under 0.5 s and under 1 s."""
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


def _lazy(module: str, name: str) -> Callable[[], Iterator[str]]:
    """The benchmark `name` of `module`, imported only when it runs, since others need no torch."""

    def run() -> Iterator[str]:
        try:
            benchmark = getattr(importlib.import_module(module), name)
        except ImportError as error:
            raise InputError(f"this benchmark needs {error.name}: pip install 'nfrepro[test]'") from None
        yield from benchmark()

    return run


SUBJECTS: dict[str, Callable[[], Iterator[str]]] = {
    "specs": bench_specs,
    "models": _lazy("nfrepro.bench.models", "bench_models"),
    "models_compiled": _lazy("nfrepro.bench.models", "bench_compiled_models"),
    "propagation": _lazy("nfrepro.bench.propagation", "bench_propagation"),
    "launch": _lazy("nfrepro.bench.launch", "bench_launch"),
    "calibration": _lazy("nfrepro.bench.calibration", "bench_calibration"),
}
# Small versions, to see that the benchmarks work.
QUICK: dict[str, Callable[[], Iterator[str]]] = {
    "launch": _lazy("nfrepro.bench.launch", "bench_launch_quickly"),
    "calibration": _lazy("nfrepro.bench.calibration", "bench_calibration_quickly"),
}
