"""Folding: everything that is constant at inference goes into plain convolutions (paper section 4.2)."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.models.convolutions import Conv2d
from nfrepro.models.nf_resnet import NFBlock, NFResNet
from nfrepro.models.nfnet import NFNet, NFNetBlock
from nfrepro.models.regnet import NFRegNet, NFRegNetBlock


@torch.no_grad()
def fold(model: nn.Module) -> nn.Module:
    """A copy of an NF-ResNet, NF-RegNet or NFNet for inference, equal up to rounding: standardization, gains, alpha,
    beta, gamma and the SkipInit scalars are in the weights of plain convolutions and of the classifier.

    The copy is in evaluation mode and is not meant to be trained. Raises `ValueError` for any other network.
    """
    if not isinstance(model, NFResNet | NFRegNet | NFNet):
        raise InputError(f"only NF-ResNets, NF-RegNets and NFNets can be folded, not a {type(model).__name__}")
    folded = deepcopy(model).eval()
    for module in folded.modules():
        if isinstance(module, NFBlock | NFRegNetBlock | NFNetBlock):
            _fold_block(module)
    if isinstance(folded, NFNet):
        for name in ("stem_conv1", "stem_conv2", "stem_conv3"):
            setattr(folded, name, _plain(getattr(folded, name), folded.gamma))
        folded.gamma = 1.0
    folded.initial_conv = _plain(folded.initial_conv, folded.gamma_in_weight)
    if not isinstance(folded, NFResNet):
        folded.final_conv = _plain(folded.final_conv, folded.gamma_in_weight)
    folded.linear.weight *= folded.gamma_after_activation
    folded.gamma_in_weight = folded.gamma_after_activation = 1.0
    return folded


def _fold_block(block: NFBlock | NFRegNetBlock | NFNetBlock) -> None:
    entering, branch = block.gamma / block.beta, block.branch_scale
    block.conv0 = _plain(block.conv0, entering)
    for name in ("conv1", "conv1b", "conv2"):
        if hasattr(block, name):
            setattr(block, name, _plain(getattr(block, name), block.gamma))
    if block.conv_shortcut is not None:
        sees_activated = getattr(block, "shortcut_sees_activated", True)
        block.conv_shortcut = _plain(block.conv_shortcut, entering if sees_activated else 1.0)
    if _ends_in_squeeze_excite(block):
        # The gates are no linear function of what they see: only behind them may the branch be scaled.
        assert block.squeeze_excite is not None
        block.squeeze_excite.gain *= float(branch)
    else:
        block.conv2 = _plain(block.conv2, 1.0, branch)
    block.gamma = block.beta = block.alpha = 1.0
    block.skip_gain = None


def _ends_in_squeeze_excite(block: NFBlock | NFRegNetBlock | NFNetBlock) -> bool:
    if isinstance(block, NFBlock):
        return block.squeeze_excite is not None and not block.squeezes_in_the_middle
    return isinstance(block, NFNetBlock)


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
