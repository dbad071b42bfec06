"""The authors' recipe (experiment.py): learning rate, which parameters decay, optimiser."""

import math
import struct

import torch
from torch import nn

from nfrepro.models.parameter_roles import decaying
from nfrepro.training.options import TrainOptions


def learning_rate(step: int, steps_per_epoch: int, options: TrainOptions) -> float:
    """The rate used for optimiser step `step` (from 0), as a closed form: a resumed run cannot get it wrong."""
    total = options.epochs * steps_per_epoch
    warmup = round(options.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return options.peak_lr * step / warmup
    falling = options.peak_lr - options.final_lr
    return options.final_lr + falling * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def parameter_groups(
    model: nn.Module, weight_decay: float, decay_norm_and_bias: bool = False
) -> list[dict[str, object]]:
    """Weights of convolutions and of the classifier decay; gains, biases, BatchNorm and SkipInit scalars do not, unless
    `decay_norm_and_bias`. Networks from elsewhere: `decaying`."""
    if decay_norm_and_bias:
        return [{"params": list(model.parameters()), "weight_decay": weight_decay}]
    decayed = decaying(model)
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, options: TrainOptions) -> torch.optim.SGD:
    """SGD with Nesterov momentum and coupled decay; the loop sets the learning rate of every step.

    On a GPU one kernel updates all parameters; on a CPU the bits of stored results are those of the separate operators.
    """
    return torch.optim.SGD(
        parameter_groups(model, options.weight_decay, options.decay_norm_and_bias),
        lr=options.peak_lr,
        momentum=options.momentum,
        nesterov=options.momentum > 0,
        fused=True if next(model.parameters()).is_cuda else None,
    )


def set_learning_rate(optimizer: torch.optim.SGD, rate: float) -> None:
    """Sets the rate of the next step; of a fused update in float32, which is what a CUDA graph can be given."""
    for group in optimizer.param_groups:
        group["lr"] = struct.unpack("f", struct.pack("f", rate))[0] if group["fused"] else rate


def ema_decay(step: int, decay: float) -> float:
    """Decay of the weight average at optimiser step `step` (from 0), warmed up so that early weights are forgotten
    (code: utils.py, tf1_ema)."""
    return min(decay, (1 + step) / (10 + step))
