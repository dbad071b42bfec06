"""The exponential moving average of a network's weights (code: utils.py, tf1_ema)."""

import copy

import torch
from torch import nn


class WeightAverage:
    """Average of the parameters and floating-point buffers of `model`, from their values now on; others are copied.

    torch's AveragedModel begins with the weights after the first step, and makes a GPU wait for every tensor.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, decay: float) -> None:
        """average = decay * average + (1 - decay) * current."""
        averaged, current = (of.state_dict(keep_vars=True) for of in (self.model, model))
        once = {id(value): name for name, value in current.items()}.values()  # tied weights have several names
        floating = [name for name in once if current[name].is_floating_point()]
        torch._foreach_lerp_([averaged[name] for name in floating], [current[name] for name in floating], 1.0 - decay)
        for name in set(once) - set(floating):
            averaged[name].copy_(current[name])
