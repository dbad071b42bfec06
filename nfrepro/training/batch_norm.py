"""BatchNorm's running statistics: over the parts of a batch (ghost statistics), and estimated again after training."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nfrepro.training.distributed import Processes


def has_batch_norm(model: nn.Module) -> bool:
    """Whether what `model` makes of an image in training depends on the others that go through it at once."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


@torch.no_grad()
def reestimate_averages(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], autocast: AbstractContextManager[object]
) -> None:
    """Sets the running statistics of BatchNorm to the mean over `batches` of (images, labels); weights stay.

    All other layers are in evaluation mode meanwhile; modes and momenta are restored.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    modes = [(module, module.training) for module in model.modules()]
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over batches
        layer.train()
    for x, _ in batches:
        with autocast:
            model(x)
    for module, training in modes:
        module.training = training
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


class RunningStatistics:
    """The running statistics of `model` over one step of `parts` parts, divided among `processes`: each part starts
    from those before the step, and the result is the mean of what the parts made of them."""

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
        total = self.processes.all_reduce(torch.cat(self.sums))
        sums = torch.split(total, [len(values) for values in self.sums])
        torch._foreach_copy_(self._floating(), torch._foreach_div(sums, float(self.parts)))

    def _floating(self) -> list[Tensor]:
        """All but the counts of steps, which every part makes the same."""
        return [buffer for buffer in self.buffers if buffer.is_floating_point()]
