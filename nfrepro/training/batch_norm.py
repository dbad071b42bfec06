"""BatchNorm's running statistics over the parts of a batch (ghost statistics)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def has_batch_norm(model: nn.Module) -> bool:
    """Whether what `model` makes of an image in training depends on the other images of its part."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


class RunningStatistics:
    """The running statistics of `model` over one step of so many parts: each part starts from those before the step,
    and after it stands the mean of what the parts made of them."""

    def __init__(self, model: nn.Module, parts: int) -> None:
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        buffers = [buffer for norm in norms for buffer in norm.buffers()]
        # With one part BatchNorm itself does it.
        self.parts, self.buffers = parts, buffers if parts > 1 else []
        self.before = [buffer.clone() for buffer in self.buffers]
        self.sums = [torch.zeros_like(buffer) for buffer in self._floating()]

    @contextmanager
    def of_a_part(self) -> Iterator[None]:
        """Around the forward pass of each part."""
        if not self.buffers:
            yield
            return
        torch._foreach_copy_(self.buffers, self.before)
        yield
        torch._foreach_add_(self.sums, self._floating())

    def average(self) -> None:
        """After the last part."""
        if self.buffers:
            torch._foreach_copy_(self._floating(), torch._foreach_div(self.sums, float(self.parts)))

    def _floating(self) -> list[Tensor]:
        """All but the counts of steps, which every part makes the same."""
        return [buffer for buffer in self.buffers if buffer.is_floating_point()]
