"""The authors' recipe (experiment.py): learning rate, parameters with weight decay, optimiser."""

import math
import struct
from typing import Any

import torch
from torch import nn

from nfrepro.errors import InputError
from nfrepro.models.parameter_roles import decaying
from nfrepro.plugins.loading import load
from nfrepro.training.options import MAKER, TrainOptions


def learning_rate(step: int, steps_per_epoch: int, options: TrainOptions) -> float:
    """The rate used for optimiser step `step` (from 0), in closed form: a resumed run cannot get it wrong."""
    total = options.epochs * steps_per_epoch
    warmup = round(options.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return options.peak_lr * step / warmup
    falling = options.peak_lr - options.final_lr
    return options.final_lr + falling * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def parameter_groups(model: nn.Module, weight_decay: float, decay_norm_and_bias: bool = False) -> list[dict[str, Any]]:
    """Groups of parameters with and without weight decay.

    Weights of convolutions and of the classifier decay; gains, biases, BatchNorm and SkipInit scalars do not, unless
    `decay_norm_and_bias`. For networks from elsewhere see `decaying`.
    """
    if decay_norm_and_bias:
        return [{"params": list(model.parameters()), "weight_decay": weight_decay}]
    decayed = decaying(model)
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    """Makes the optimizer; the loop sets every step's learning rate. Raises `InputError` if a user's code makes none.

    On a GPU the update is fused. On a CPU it is not, because stored results have the bits of separate operators.
    """
    groups = parameter_groups(model, options.weight_decay, options.decay_norm_and_bias)
    fused = True if next(model.parameters()).is_cuda else None
    if options.optimizer == "sgd":
        nesterov = options.momentum > 0
        return torch.optim.SGD(groups, lr=options.peak_lr, momentum=options.momentum, nesterov=nesterov, fused=fused)
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=options.peak_lr, fused=fused, **_adamw_options(options))
    groups = [group for group in groups if group["params"]]  # not every optimizer takes an empty one
    made = load(options.optimizer, options.optimizer_options, MAKER)(
        groups, lr=options.peak_lr, **options.optimizer_options
    )
    if not isinstance(made, torch.optim.Optimizer):
        raise InputError(f"train.optimizer: {options.optimizer} returned {type(made).__name__}, not a torch Optimizer")
    return made


def _adamw_options(options: TrainOptions) -> dict[str, Any]:
    found = dict(options.optimizer_options)
    if "betas" in found:
        found["betas"] = tuple(found["betas"])
    return found


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the rate of the next step; for a fused update in float32, because a CUDA graph can only be given that."""
    for group in optimizer.param_groups:
        group["lr"] = struct.unpack("f", struct.pack("f", rate))[0] if group.get("fused") else rate


def ema_decay(step: int, decay: float) -> float:
    """Decay of the weight average at optimiser step `step` (from 0), warmed up so that early weights are forgotten
    (code: utils.py, tf1_ema)."""
    return min(decay, (1 + step) / (10 + step))
