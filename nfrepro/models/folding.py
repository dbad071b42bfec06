"""Folding: everything that is constant at inference goes into plain convolutions (paper section 4.2)."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.models.convolutions import Conv2d
from nfrepro.models.nf_resnet import NFBlock, NFResNet


@torch.no_grad()
def fold(model: nn.Module) -> nn.Module:
    """A copy of an NF-ResNet for inference, equal up to rounding: standardization, gains, alpha, beta, gamma and the
    SkipInit scalars are in the weights of plain convolutions and of the classifier.

    The copy is in evaluation mode and is not meant to be trained. Raises `ValueError` for any other network.
    """
    if not isinstance(model, NFResNet):
        raise InputError(f"only NF-ResNets can be folded, not a {type(model).__name__}")
    folded = deepcopy(model).eval()
    folded.initial_conv = _plain(folded.initial_conv, folded.gamma_in_weight)
    for module in folded.modules():
        if isinstance(module, NFBlock):
            _fold_block(module)
    folded.linear.weight *= folded.gamma_after_activation
    folded.gamma_in_weight = folded.gamma_after_activation = 1.0
    return folded


def _fold_block(block: NFBlock) -> None:
    entering = block.gamma / block.beta
    branch: Tensor | float = block.alpha if block.skip_gain is None else block.alpha * block.skip_gain
    if block.squeeze_excite is not None and not block.squeezes_in_the_middle:
        block.squeeze_excite.gain *= float(branch)
        branch = 1.0
    if block.conv_shortcut is not None:
        block.conv_shortcut = _plain(block.conv_shortcut, entering if block.shortcut_sees_activated else 1.0)
    block.conv0 = _plain(block.conv0, entering)
    block.conv1 = _plain(block.conv1, block.gamma)
    block.conv2 = _plain(block.conv2, block.gamma, branch)
    block.gamma = block.beta = block.alpha = 1.0
    block.skip_gain = None


def _plain(convolution: Conv2d, input_scale: float, output_scale: Tensor | float = 1.0) -> Conv2d:
    """The plain convolution that does what `convolution` does between the two scales."""
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
    plain.weight = nn.Parameter(convolution.effective_weight(input_scale * output_scale), requires_grad=False)
    plain.bias = nn.Parameter(convolution.bias * output_scale, requires_grad=False)
    return plain
