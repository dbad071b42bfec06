"""Evaluation mode of a network for the duration of a measurement."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def evaluation(model: nn.Module, batch_statistics: bool) -> Iterator[None]:
    """Evaluation mode without gradients.

    Modes, running statistics and the random states of the CPU and the model's GPUs are always restored afterwards.

    With `batch_statistics` every layer that keeps running statistics (BatchNorm, InstanceNorm, and layers of other
    libraries with tensors `running_…`) normalizes with those of its batch; running ones are neither used nor changed.
    Compiled models run uncompiled, so that their operations can be seen.
    """
    modes = [(module, module.training) for module in model.modules()]
    layers = [module for module in model.modules() if batch_statistics and keeps_running_statistics(module)]
    tracking = [(layer, layer.track_running_stats) for layer in layers if hasattr(layer, "track_running_stats")]
    # Without tracking, torch's own layers change nothing, but layers derived from them, and InstanceNorm, may.
    states = [_State(layer) for layer in layers]
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    try:
        # Set directly, since an overridden `eval()` might do something that is not undone.
        for module, _ in modes:
            module.training = False
        for layer in layers:
            layer.training = True
        for layer, _ in tracking:
            layer.track_running_stats = False  # type: ignore[assignment]
        with torch.random.fork_rng(devices), torch.no_grad(), _uncompiled():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for layer, tracks in tracking:
            layer.track_running_stats = tracks
        for state in states:
            state.restore()


def keeps_running_statistics(module: nn.Module) -> bool:
    """Whether `module` itself, not one of its parts, keeps statistics of its inputs from batch to batch."""
    return isinstance(module, _NormBase) or any("running" in name for name in _tensors(module))


class _State:
    """The tensors of one layer, to be restored with their identity and their values."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.kept = {name: (tensor, tensor.clone()) for name, tensor in _tensors(layer).items()}

    @torch.no_grad()
    def restore(self) -> None:
        for name, (tensor, value) in self.kept.items():
            places = self.layer._buffers if name in self.layer._buffers else self.layer.__dict__
            places[name] = tensor
            if not torch.equal(tensor, value):
                tensor.copy_(value)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Buffers of `module` itself, and tensors that it keeps as plain attributes."""
    plain = {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}
    return {**dict(module.named_buffers(recurse=False)), **plain}


def _uncompiled() -> AbstractContextManager[object]:
    # Importing the compiler takes seconds: if nothing has imported it, there is no compiled model.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
