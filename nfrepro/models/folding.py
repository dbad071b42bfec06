"""Folding of everything that is constant at inference into plain convolutions (paper section 4.2)."""

from copy import deepcopy

import torch
from torch import nn

from nfrepro.errors import InputError
from nfrepro.models.blocks import NormalizerFree, NormalizerFreeBlock
from nfrepro.models.convolutions import Conv2d, ScaledConvolution


@torch.no_grad()
def fold(model: nn.Module) -> nn.Module:
    """A copy of an NF-ResNet, NF-RegNet or NFNet for inference, equal up to rounding.

    Standardization, gains, alpha, beta, gamma and the SkipInit scalars are in the weights of plain convolutions and of
    the classifier; those of a branch that ends in squeeze-excite are in its gates. The copy is in evaluation mode and
    is not meant to be trained. Raises `ValueError` for any other network.
    """
    if not isinstance(model, NormalizerFree):
        raise InputError(f"only NF-ResNets, NF-RegNets and NFNets can be folded, not a {type(model).__name__}")
    folded = deepcopy(model).eval()
    for scaled in folded.scaled_convolutions():
        setattr(scaled.owner, scaled.name, _plain(scaled))
    for module in folded.modules():
        if isinstance(module, NormalizerFreeBlock):
            module.set_scales_to_one()
    folded.linear.weight *= folded.gamma_after_activation
    folded.gamma = folded.gamma_in_weight = folded.gamma_after_activation = 1.0
    return folded


def _plain(scaled: ScaledConvolution) -> Conv2d:
    """The plain convolution that is equivalent to the scaled one, including its scales."""
    convolution = scaled.convolution
    assert convolution.bias is not None
    plain = Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size[0],
        convolution.stride[0],
        "same" if convolution.pads_by_size else "torch",
        bias=True,
        groups=convolution.groups,
    )
    weight, bias = scaled.effective()
    plain.weight = nn.Parameter(weight, requires_grad=False)
    plain.bias = nn.Parameter(bias, requires_grad=False)
    return plain
