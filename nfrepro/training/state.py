"""Everything that changes while a run trains, and so everything a checkpoint holds."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


@dataclass
class Sums:
    """Sums over the steps since the last evaluation; on the device until somebody looks."""

    loss: Tensor
    correct: Tensor
    images: int = 0
    steps: int = 0

    @classmethod
    def empty(cls, device: torch.device) -> "Sums":
        loss = torch.zeros((), dtype=torch.float64, device=device)
        return cls(loss, correct=torch.zeros((), dtype=torch.int64, device=device))

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.loss += loss
        self.correct += (logits.argmax(1) == labels).sum()
        self.images += len(labels)
        self.steps += 1


@dataclass
class TrainingState:
    """A run in training, after `step` optimiser steps."""

    model: nn.Module
    ema: AveragedModel | None
    optimizer: torch.optim.SGD
    sums: Sums
    step: int = 0
    train_seconds: float = 0.0
    metrics: list[dict[str, Any]] = field(default_factory=list)

    def to_checkpoint(self, fingerprint: str) -> dict[str, Any]:
        """Tensors, numbers, strings and containers of them; `fingerprint` is that of the data."""
        return {
            "fingerprint": fingerprint,
            "threads": torch.get_num_threads(),
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sums": asdict(self.sums),
            "step": self.step,
            "train_seconds": self.train_seconds,
            "metrics": self.metrics,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if self.sums.loss.is_cuda else [],
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Makes this state, and the process's generators, what they were when `saved` was made."""
        device = self.sums.loss.device
        self.model.load_state_dict(saved["model"])
        if self.ema is not None:
            self.ema.load_state_dict(saved["ema"])
        self.optimizer.load_state_dict(saved["optimizer"])
        sums = saved["sums"]
        self.sums = Sums(sums["loss"].to(device), sums["correct"].to(device), sums["images"], sums["steps"])
        self.step = saved["step"]
        self.train_seconds = saved["train_seconds"]
        self.metrics = saved["metrics"]
        # The order of a sum, and so its last bit, depends on the number of threads.
        torch.set_num_threads(saved["threads"])
        torch.set_rng_state(saved["rng"])
        if saved["cuda_rng"]:
            torch.cuda.set_rng_state_all(saved["cuda_rng"])
