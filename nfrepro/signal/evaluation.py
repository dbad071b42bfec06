"""A network in evaluation mode for the time of a measurement."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def evaluation(model: nn.Module, batch_statistics: bool) -> Iterator[None]:
    """Evaluation mode without gradients. Afterwards, whatever happens, modes, buffers of BatchNorm layers and the state
    of the random generator of the model's device are as they were.

    With `batch_statistics` BatchNorm layers normalize by their batch; running ones are neither used nor changed.
    Compiled models run uncompiled, so that what happens within them is seen.
    """
    modes = [(module, module.training) for module in model.modules()]
    layers = [module for module in model.modules() if batch_statistics and isinstance(module, _BatchNorm)]
    tracking = [(layer, layer.track_running_stats) for layer in layers]
    # torch's own layers change nothing without tracking; layers derived from them may.
    buffers = [(layer, {name: (kept, kept.clone()) for name, kept in _buffers(layer).items()}) for layer in layers]
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    try:
        # Set directly, since `eval()` may be overridden and need not undo what it did.
        for module, _ in modes:
            module.training = False
        for layer in layers:
            layer.training, layer.track_running_stats = True, False
        with torch.random.fork_rng(devices), torch.no_grad(), _uncompiled():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for layer, tracks in tracking:
            layer.track_running_stats = tracks
        for layer, kept in buffers:
            _restore(layer, kept)


def _buffers(layer: nn.Module) -> dict[str, Tensor]:
    return dict(layer.named_buffers(recurse=False))


@torch.no_grad()
def _restore(layer: nn.Module, kept: dict[str, tuple[Tensor, Tensor]]) -> None:
    for name, (buffer, value) in kept.items():
        layer._buffers[name] = buffer
        if not torch.equal(buffer, value):
            buffer.copy_(value)


def _uncompiled() -> AbstractContextManager[object]:
    # Importing the compiler takes seconds: where nothing has, there is no compiled model.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
