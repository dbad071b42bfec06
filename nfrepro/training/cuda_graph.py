"""One optimiser step as a CUDA graph: recorded once, and then launched as a whole.

A small network waits for the CPU to launch its kernels one by one: docs/gpu.md says how much time that costs, and how
much a graph saves. The kernels are the same, and so are the bits.
"""

import os
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nfrepro.models.parameter_roles import is_of_this_package

# Steps launched kernel by kernel before the step is recorded: they create the optimiser's buffers, and let libraries
# choose and load their kernels.
STEPS_BEFORE = 3


# Environment variable: on a GPU, steps use a CUDA graph where possible, unless it is 0.
VARIABLE = "NFREPRO_CUDA_GRAPH"

Update = Callable[[Tensor, Tensor], Tensor]


class GraphedStep:
    """Makes steps of `optimizer`, which must be fused; from the fourth on by a graph."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.steps = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def step(self, update: Update, x: Tensor, targets: Tensor) -> Tensor:
        """Makes one step at the optimiser's learning rate with `update`, and returns its result.

        `update` must do the same with every batch: no Python number may change but the learning rate.
        """
        self.steps += 1
        if self.steps <= STEPS_BEFORE:
            return self._on_the_side(lambda: update(x, targets))
        if self.steps == STEPS_BEFORE + 1:
            self._try_to_record(update, x, targets)
        if self.graph is None:
            return update(x, targets)
        self.x.copy_(x)
        self.targets.copy_(targets)
        self.rate.fill_(self.optimizer.param_groups[0]["lr"])
        self.graph.replay()
        return self.found.clone()

    def _try_to_record(self, update: Update, x: Tensor, targets: Tensor) -> None:
        """Records the step; if that fails, kernels continue to be launched one by one, and a warning says why."""
        try:
            self._record(update, x, targets)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.graph = None
            warnings.warn(f"training runs without a CUDA graph: {error}", stacklevel=2)

    def _record(self, update: Update, x: Tensor, targets: Tensor) -> None:
        """Records a step without making it. The learning rate becomes a tensor, which each step fills."""
        self.x, self.targets = x.clone(), targets.clone()
        self.rate = torch.zeros((), device=x.device)
        groups, rate = self.optimizer.param_groups, self.optimizer.param_groups[0]["lr"]
        self.optimizer.zero_grad(set_to_none=True)  # gradients have to be in the graph's own memory
        self.graph = graph = torch.cuda.CUDAGraph()
        for group in groups:
            group["lr"] = self.rate
        try:
            # Other threads may pin memory for images meanwhile.
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                self.found = update(self.x, self.targets)
        finally:
            for group in groups:
                group["lr"] = rate

    def _on_the_side(self, action: Callable[[], Tensor]) -> Tensor:
        """Runs `action` on the stream that will record: autograd remembers where gradients were first accumulated."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            found = action()
        torch.cuda.current_stream().wait_stream(self.stream)
        return found


def wanted() -> bool:
    """Whether steps should be recorded if possible."""
    return os.environ.get(VARIABLE, "1") != "0"


def may_be_recorded(model: nn.Module, optimizer: torch.optim.Optimizer, parts: int, processes: int) -> bool:
    """Whether every step of `model` does the same: on one GPU, on whole batches, and without hooks that measure.

    A network or an optimizer from elsewhere may do anything in Python at each step, and torch's optimizers other than
    SGD count their steps.
    """
    on_gpu = next(model.parameters()).is_cuda
    hooks = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    fused = type(optimizer) is torch.optim.SGD and bool(optimizer.param_groups[0].get("fused"))
    alike = is_of_this_package(model) and fused
    return on_gpu and parts == 1 and processes == 1 and not hooks and alike
