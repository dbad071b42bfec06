"""Adaptive gradient clipping: no gradient is large compared with the weights it changes (arXiv 2102.06171)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nfrepro.models.parameter_roles import classifier

# Lower bound on the norm of weights, so that those near 0 can move (code: optim.py, eps).
LEAST_NORM = 1e-3


def clipped_parameters(model: nn.Module) -> list[nn.Parameter]:
    """All parameters of `model` but those of its classifier (arXiv 2102.06171: never the last layer).

    The authors' experiment leaves out the classifier's weight only and clips its bias; timm leaves out both, as we do.
    """
    last = classifier(model)
    left_out = set() if last is None else {id(parameter) for parameter in last.parameters()}
    return [parameter for parameter in model.parameters() if id(parameter) not in left_out]


@torch.no_grad()
def clip_gradients(parameters: Sequence[nn.Parameter], clip_factor: float) -> None:
    """Shrinks, in place, the gradient G_i of every output unit i to |G_i| <= clip_factor * max(|W_i|, LEAST_NORM).

    A unit is a filter of a convolution or a row of a linear weight. A vector (gains, biases) or a scalar (SkipInit) is
    one unit as a whole (code: optim.py; timm). A gradient within its bound keeps its bits; parameters without a
    gradient are skipped. Nothing waits for the device.
    """
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    bounds = torch._foreach_clamp_min([_unit_norms(parameter) for parameter in parameters], LEAST_NORM)
    torch._foreach_mul_(bounds, clip_factor)
    # A gradient of 0 makes this infinite, hence 1. A non-finite gradient makes it NaN or 0, and stays non-finite.
    factors = torch._foreach_div(bounds, [_unit_norms(gradient) for gradient in gradients])
    torch._foreach_clamp_max_(factors, 1.0)
    torch._foreach_mul_(gradients, factors)


def _unit_norms(x: Tensor) -> Tensor:
    """Norms of the units of [O, ...], as [O, 1, ...]; for a vector or a scalar, the norm of the whole, as a scalar."""
    over = None if x.ndim <= 1 else tuple(range(1, x.ndim))
    norms: Tensor = torch.linalg.vector_norm(x, dim=over, keepdim=x.ndim > 1)
    return norms
