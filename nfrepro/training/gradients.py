"""Sums of gradients over the processes of a run, sent while the backward pass is still running.

This replaces torch's DistributedDataParallel, which changes its buckets after its first step, so that with more than
two processes a continued run ends with other bits, and keeps connections open that a failing process has to close.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nfrepro.training.distributed import Processes, lost_processes

# Size of one message: large enough for the network, small enough that the first is sent early.
BUCKET_BYTES = 25 * 2**20


class GradientSum:
    """Replaces gradients of `parameters` by their sums over the processes, the same bits in all. Does nothing alone."""

    def __init__(self, parameters: Iterable[nn.Parameter], processes: Processes) -> None:
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        self.buckets = _buckets(trained) if processes.count > 1 and trained else []
        self.missing: list[int] = []  # number of missing gradients per bucket during the last backward pass
        self.sent: list[tuple[Tensor, dist.Work]] = []
        for number, bucket in enumerate(self.buckets):
            for parameter in bucket:
                parameter.register_post_accumulate_grad_hook(lambda _, number=number: self._ready(number))  # type: ignore[no-untyped-call]

    def before_last_backward(self) -> None:
        """Announces the last backward pass: from now on a gradient is complete when it is ready."""
        self.missing = [len(bucket) for bucket in self.buckets]

    def finish(self) -> None:
        """Stores the sums, after the last backward pass. Raises `ProcessLost`."""
        while len(self.sent) < len(self.buckets):  # a parameter that the loss does not depend on has no gradient
            self._send(self.buckets[len(self.sent)])
        for bucket, (flat, work) in zip(self.buckets, self.sent, strict=True):
            with lost_processes():
                work.wait()
            gradients = _gradients(bucket)
            parts = torch.split(flat, [gradient.numel() for gradient in gradients])
            torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])
        self.sent, self.missing = [], []

    def _ready(self, number: int) -> None:
        """Sends all complete buckets, in the same order in all processes."""
        if not self.missing:
            return
        self.missing[number] -= 1
        while len(self.sent) < len(self.buckets) and self.missing[len(self.sent)] == 0:
            self._send(self.buckets[len(self.sent)])

    def _send(self, bucket: list[nn.Parameter]) -> None:
        flat = torch.cat([bucket[0].new_empty(0), *(gradient.reshape(-1) for gradient in _gradients(bucket))])
        with lost_processes():
            work = dist.all_reduce(flat, async_op=True)
        assert work is not None
        self.sent.append((flat, work))


def _buckets(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Parameters grouped by message, in the order in which most gradients become ready."""
    buckets: list[list[nn.Parameter]] = [[]]
    size = 0
    for parameter in reversed(list(parameters)):
        if size >= BUCKET_BYTES:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += parameter.numel() * parameter.element_size()
    return buckets


def _gradients(bucket: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in bucket if parameter.grad is not None]
