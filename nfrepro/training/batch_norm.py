"""BatchNorm's running statistics over the parts of a batch (ghost statistics)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nfrepro.training.distributed import Processes


def has_batch_norm(model: nn.Module) -> bool:
    """Whether what `model` makes of an image in training depends on the others that go through it at once."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


class RunningStatistics:
    """The running statistics of `model` over one step of so many parts, divided among `processes`: each part starts
    from those before the step, and after it stands the mean of what the parts made of them."""

    def __init__(self, model: nn.Module, parts: int, processes: Processes) -> None:
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        buffers = [buffer for norm in norms for buffer in norm.buffers()]
        # With one part BatchNorm itself does it.
        self.buffers = buffers if parts > 1 else []
        self.parts, self.processes = parts, processes
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
        """After the last part. Raises `ProcessLost`."""
        if not self.buffers:
            return
        total = self.processes.add_up(torch.cat(self.sums))
        sums = torch.split(total, [len(values) for values in self.sums])
        torch._foreach_copy_(self._floating(), torch._foreach_div(sums, float(self.parts)))

    def _floating(self) -> list[Tensor]:
        """All but the counts of steps, which every part makes the same."""
        return [buffer for buffer in self.buffers if buffer.is_floating_point()]
