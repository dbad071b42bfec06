"""The authors' recipe (experiment.py): learning rate, which parameters decay, optimiser."""

import math

import torch
from torch import nn

from nfrepro.training.options import TrainOptions


def learning_rate(step: int, steps_per_epoch: int, options: TrainOptions) -> float:
    """The rate used for optimiser step `step` (from 0), as a closed form: a resumed run cannot get it wrong."""
    total = options.epochs * steps_per_epoch
    warmup = round(options.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return options.peak_lr * step / warmup
    return options.peak_lr * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weights of convolutions and of the classifier decay; gains, biases, BatchNorm and SkipInit scalars do not."""
    decayed = {id(module.weight) for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, options: TrainOptions) -> torch.optim.SGD:
    """SGD with Nesterov momentum and coupled decay; the loop sets the learning rate of every step."""
    return torch.optim.SGD(
        parameter_groups(model, options.weight_decay),
        lr=options.peak_lr,
        momentum=options.momentum,
        nesterov=options.momentum > 0,
    )


def ema_decay(step: int, decay: float) -> float:
    """Decay of the weight average at `step`, warmed up so that early weights are forgotten (code: ema.py)."""
    return min(decay, (1 + step) / (10 + step))
