"""Everything that changes while a run trains, and so everything a checkpoint holds."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from nfrepro.training.ema import WeightAverage
from nfrepro.training.optim import make_optimizer
from nfrepro.training.options import TrainOptions


@dataclass
class Sums:
    """Sums over the steps since the last evaluation, up to the last look at the losses."""

    loss: float = 0.0
    correct: int = 0
    images: int = 0
    steps: int = 0


@dataclass
class TrainingState:
    """A run in training, after `step` optimiser steps."""

    model: nn.Module
    ema: WeightAverage | None
    optimizer: torch.optim.Optimizer
    sums: Sums = field(default_factory=Sums)
    step: int = 0
    train_seconds: float = 0.0
    data_seconds: float = 0.0  # of these, waiting for batches
    metrics: list[dict[str, Any]] = field(default_factory=list)
    early_skipinit_gain: float | None = None  # mean |scalar| after a quarter of the steps; None before, or without any

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def to_checkpoint(self, fingerprint: str, processes: int) -> dict[str, Any]:
        """The state as tensors, numbers, strings and containers of them; `fingerprint` is that of the data."""
        return {
            "fingerprint": fingerprint,
            "processes": processes,
            "threads": torch.get_num_threads(),
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sums": asdict(self.sums),
            "step": self.step,
            "train_seconds": self.train_seconds,
            "data_seconds": self.data_seconds,
            "metrics": self.metrics,
            "early_skipinit_gain": self.early_skipinit_gain,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def restore(self, saved: dict[str, Any], processes: int) -> None:
        """Restores this state and the process's random generators from `saved`; the number of processes may differ."""
        self.model.load_state_dict(saved["model"])
        if self.ema is not None:
            self.ema.model.load_state_dict(saved["ema"])
        groups = self.optimizer.param_groups
        fused = {"fused": groups[0]["fused"]} if "fused" in groups[0] else {}
        for group in saved["optimizer"]["param_groups"]:
            group.update(fused)  # depends on this device, not on the one that saved; decides where step counts go
        self.optimizer.load_state_dict(saved["optimizer"])
        self.sums = Sums(**saved["sums"])
        self.step = saved["step"]
        self.train_seconds, self.data_seconds = saved["train_seconds"], saved["data_seconds"]
        self.metrics = saved["metrics"]
        self.early_skipinit_gain = saved.get("early_skipinit_gain")  # absent from checkpoints of earlier versions
        # The order of a sum, and so its last bit, depends on the number of threads.
        if saved["processes"] == processes:
            torch.set_num_threads(saved["threads"])
        torch.set_rng_state(saved["rng"])
        if saved["cuda_rng"] is not None:
            torch.cuda.set_rng_state(saved["cuda_rng"], self.device)


def initial_state(model: nn.Module, options: TrainOptions) -> TrainingState:
    """The state of `model` before its first step."""
    ema = None if options.ema_decay is None else WeightAverage(model)
    return TrainingState(model, ema, make_optimizer(model, options))


def mean_abs_skipinit_gain(model: nn.Module) -> float | None:
    """The mean of |scalar| over the residual blocks; None for a network without SkipInit scalars."""
    gains = [getattr(module, "skip_gain", None) for module in model.modules()]
    sizes = [abs(gain.item()) for gain in gains if isinstance(gain, nn.Parameter)]
    return sum(sizes) / len(sizes) if sizes else None
