"""BatchNorm's running statistics: over the parts of a batch (ghost statistics), and re-estimated after training."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nfrepro.training.distributed import Processes


def has_batch_norm(model: nn.Module) -> bool:
    """Whether in training the output of `model` for an image depends on the other images in the batch."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


@torch.no_grad()
def reestimate_averages(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], autocast: AbstractContextManager[object]
) -> None:
    """Sets the running statistics of BatchNorm to the mean over `batches` of (images, labels); weights do not change.

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
    """The running statistics of `model` over one step of `parts` parts, divided among `processes`.

    Each part starts from the statistics before the step, and the result is the mean of those after each part.
    """

    def __init__(self, model: nn.Module, parts: int, processes: Processes) -> None:
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        buffers = [buffer for norm in norms for buffer in norm.buffers()]
        # With one part BatchNorm itself updates them.
        self.buffers = buffers if parts > 1 else []
        self.parts, self.processes = parts, processes
        self.before = [buffer.clone() for buffer in self.buffers]
        self.sums = [torch.zeros_like(buffer) for buffer in self._floating()]

    @contextmanager
    def of_a_part(self) -> Iterator[None]:
        """Context for the forward pass of each part."""
        if not self.buffers:
            yield
            return
        torch._foreach_copy_(self.buffers, self.before)
        yield
        torch._foreach_add_(self.sums, self._floating())

    def average(self) -> None:
        """Sets the mean over the parts, after the last of them. Raises `ProcessLost`."""
        if not self.buffers:
            return
        total = self.processes.all_reduce(torch.cat(self.sums))
        sums = torch.split(total, [len(values) for values in self.sums])
        torch._foreach_copy_(self._floating(), torch._foreach_div(sums, float(self.parts)))

    def _floating(self) -> list[Tensor]:
        """All buffers but the counts of steps, which are the same after every part."""
        return [buffer for buffer in self.buffers if buffer.is_floating_point()]
