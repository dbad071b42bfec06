"""Time, kernels and waits of a training step of the project on a batch that is already loaded."""

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nfrepro.models import convolutions, effective_weights
from nfrepro.tasks import dry_run
from nfrepro.tasks.options import TrainTask
from nfrepro.tasks.watched_training import run
from nfrepro.training.context import RunContext
from nfrepro.training.loop import TrainingSetup
from nfrepro.training.optim import set_learning_rate
from nfrepro.training.precision import prepare_device
from nfrepro.training.step import Trainer

Fact = dict[str, Any]
TINY = {"blocks": [1, 1], "width": 0.125, "stem": "small"}
SMALL = {"blocks": [3, 3, 3], "width": 0.5, "stem": "small"}  # scale `gpu` of the experiments on CIFAR-10


@dataclass(frozen=True)
class Prepared:
    """One network in training, and a batch for it."""

    trainer: Trainer
    setup: TrainingSetup
    x: Tensor
    targets: Tensor

    @property
    def model(self) -> nn.Module:
        return self.trainer.state.model

    def step(self) -> None:
        set_learning_rate(self.trainer.state.optimizer, 0.01)
        self.trainer.step(self.x, self.targets, self.setup.autocast)


def task(
    model: dict[str, Any], batch: int, pixels: int = 32, classes: int = 10, images: int = 2048, **train: Any
) -> TrainTask:
    """The options of a training run on synthetic images."""
    return TrainTask.model_validate(
        {
            "seed": 0,
            "data": {
                "name": "synthetic",
                "classes": classes,
                "channels": 3,
                "pixels": pixels,
                "train_images": images,
                "test_images": 512,
                "crop_padding": 2,
            },
            "model": model,
            "train": {"epochs": 2, "batch_size": batch, "lr_per_256": 0.1, "warmup_epochs": 0.5, **train},
        }
    )


def prepared(options: TrainTask, device_name: str, cuda_graph: bool = False) -> Prepared:
    """The initial state of that training run, with random images."""
    device = prepare_device(device_name, options.train.precision)
    images = dry_run.random_images(options, options.train.batch_size).to(device)
    setup = TrainingSetup(images, options.data, options.train, options.seed)
    x, targets = next(dry_run.endless_batches(setup))
    return Prepared(dry_run.initial_trainer(options, setup, cuda_graph), setup, x, targets)


WAYS = ("all filters at once", "as BatchNorm", "operator by operator")


@contextmanager
def standardizing(way: str) -> Iterator[None]:
    """Standardizes weights in one of `WAYS` during the block; the first is that of training."""
    kept = effective_weights._is_for_kernel, convolutions._StandardizeAsBatchNorm
    try:
        if way != WAYS[0]:
            setattr(effective_weights, "_is_for_kernel", lambda scaled: False)  # noqa: B010
        if way == WAYS[2]:
            setattr(convolutions, "_StandardizeAsBatchNorm", convolutions._Standardize)  # noqa: B010
        yield
    finally:
        setattr(effective_weights, "_is_for_kernel", kept[0])  # noqa: B010
        setattr(convolutions, "_StandardizeAsBatchNorm", kept[1])  # noqa: B010


def seconds(call: Callable[[], object], times: int, warm_up: int = 3) -> float:
    """Mean seconds per call over `times` calls."""
    for _ in range(warm_up):
        call()
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(times):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - begun) / times


def cost_of_step(call: Callable[[], object], times: int) -> dict[str, Any]:
    """Milliseconds of a call, its launches on the CPU and its kernels on the GPU; numbers of kernels and of waits."""
    found: dict[str, Any] = {"ms": 1e3 * seconds(call, times)}
    begun = time.perf_counter()
    for _ in range(5):
        call()
    found["cpu_ms"] = 200.0 * (time.perf_counter() - begun)
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(3):
            call()
        torch.cuda.synchronize()
    kernels = [event for event in profile.events() if event.device_type.name == "CUDA"]
    by_name: dict[str, list[float]] = {}
    for event in kernels:
        by_name.setdefault(event.name[:60], []).append(event.time_range.elapsed_us())
    found["kernels"] = len(kernels) / 3
    found["gpu_ms"] = sum(map(sum, by_name.values())) / 3e3
    slowest = sorted(by_name.items(), key=lambda item: -sum(item[1]))[:10]
    found["slowest"] = [(name, round(len(times) / 3, 1), round(sum(times) / 3)) for name, times in slowest]
    found["waits"] = _waits(call)
    return found


def _waits(call: Callable[[], object]) -> int:
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def final_values(options: Any, device: str, **ctx: Any) -> dict[str, Any]:
    """The final values of a run on the device, in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        return dict(run(options, RunContext(Path(folder), device, **ctx)).final)
