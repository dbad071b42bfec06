"""Residual blocks that declare their branch. In all other modules, it is found by following the signal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class DeclaredBlock(nn.Module):
    """A residual block whose forward calls `residual_branch(out[, branch_scale])` once.

    The method returns `branch_scale` times the branch of `out`, the block's input after the block's first operations,
    if any. The branch is measured without `branch_scale`.
    """

    residual_branch: Callable[..., Tensor]


@contextmanager
def watched(
    block: DeclaredBlock, note_branch: Callable[[Tensor, float], None], note_output: Callable[[Tensor], None]
) -> Iterator[None]:
    """Report the branch of each call of `block`, with its factor, and then the output, within the context."""
    own: dict[str, Any] = {
        name: block.__dict__[name] for name in ("forward", "residual_branch") if name in block.__dict__
    }
    forward, branch = block.forward, block.residual_branch

    def residual_branch(out: Tensor, branch_scale: Tensor | float = 1.0) -> Tensor:
        residual = branch(out)
        note_branch(residual, branch_scale.item() if isinstance(branch_scale, Tensor) else branch_scale)
        return residual if isinstance(branch_scale, float) and branch_scale == 1.0 else residual * branch_scale

    def watched_forward(*args: Any, **kwargs: Any) -> Tensor:
        with torch._C.DisableTorchFunction():  # no need to follow the signal in it
            output: Tensor = forward(*args, **kwargs)
        note_output(output)
        return output

    block.__dict__.update(forward=watched_forward, residual_branch=residual_branch)
    try:
        yield
    finally:
        for name in ("forward", "residual_branch"):
            del block.__dict__[name]
        block.__dict__.update(own)
