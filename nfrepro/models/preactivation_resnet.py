"""Version 2 (pre-activation) ResNets that the paper compares with: BatchNorm in both orders, GroupNorm with Weight
Standardization, none, and SkipInit (code: resnet.py, skipinit_resnet.py)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.convolutions import Conv2d, WSConv2d
from nfrepro.models.options import (
    BNResNetOptions,
    GNWSResNetOptions,
    ResNetOptions,
    SkipInitResNetOptions,
    UnnormalizedResNetOptions,
)
from nfrepro.models.residual import add_branch
from nfrepro.models.resnet import BlockShape, ResNet, block_shapes, stem_channels

# Variance of the initial weights times fan-in; None: Haiku's default.
INIT_SCALE = {"lecun": 1.0, "he": 2.0, "haiku": None}


@dataclass(frozen=True)
class Kind:
    """The differences between families."""

    norm: Callable[[int], nn.Module]  # of the number of channels
    init_scale: float | None  # variance of the initial weights times fan-in; None: Haiku's default
    convolution: type[Conv2d] = Conv2d
    bias: bool = False
    stem_bias: bool = False
    activation_first: bool = False  # ReLU-BN-Conv instead of BN-ReLU-Conv
    skip_gain: bool = False  # SkipInit


def bn_resnet(options: BNResNetOptions, num_classes: int, in_channels: int) -> ResNet:
    """BN-ResNet V2; running averages decay by 0.9 (code)."""
    kind = Kind(nn.BatchNorm2d, INIT_SCALE[options.conv_init], activation_first=options.order == "relu_bn_conv")
    return PreactivationResNet(options, kind, num_classes, in_channels)


def gn_ws_resnet(options: GNWSResNetOptions, num_classes: int, in_channels: int) -> ResNet:
    """GroupNorm and plain Weight Standardization. Raises `ValueError` for a width that its groups do not divide."""

    def norm(channels: int) -> nn.Module:
        if channels % options.norm_groups:
            raise InputError(f"{channels} channels do not divide into norm_groups = {options.norm_groups}")
        return nn.GroupNorm(options.norm_groups, channels)

    return PreactivationResNet(options, Kind(norm, 1.0, convolution=WSConv2d), num_classes, in_channels)


def unnormalized_resnet(options: UnnormalizedResNetOptions, num_classes: int, in_channels: int) -> ResNet:
    """Nothing in place of BatchNorm: the variance grows exponentially with depth."""
    return PreactivationResNet(options, Kind(_nothing, 2.0, bias=True, stem_bias=True), num_classes, in_channels)


def skipinit_resnet(options: SkipInitResNetOptions, num_classes: int, in_channels: int) -> ResNet:
    """SkipInit: plain convolutions with bias, none in the stem, and Haiku's default init; every branch begins at 0
    (code: skipinit_resnet.py)."""
    return PreactivationResNet(options, Kind(_nothing, None, bias=True, skip_gain=True), num_classes, in_channels)


class PreactivationResNet(ResNet):
    """x + f(x), f = (norm, activation, 1x1, norm, activation, 3x3, norm, activation, 1x1)."""

    def __init__(self, options: ResNetOptions, kind: Kind, num_classes: int, in_channels: int) -> None:
        super().__init__(options)
        channels, size, stride = stem_channels(options), self.stem_shape.kernel_size, self.stem_shape.stride
        self.initial_conv = kind.convolution(in_channels, channels, size, stride, options.padding, bias=kind.stem_bias)
        for shapes in block_shapes(options):
            self.stages.append(nn.Sequential(*[PreactivationBlock(options, kind, shape) for shape in shapes]))
        self.final_norm = NormAndActivation(options, kind, shapes[-1].out_channels)
        self.add_classifier(shapes[-1].out_channels, num_classes)
        self.init_plain_convolutions(kind.init_scale)

    def forward_head(self, x: Tensor) -> Tensor:
        out: Tensor = self.final_norm(x).mean((2, 3))
        return out


class PreactivationBlock(nn.Module):
    """One block; the shortcut of a transition block takes the normalized, activated signal."""

    def __init__(self, options: ResNetOptions, kind: Kind, shape: BlockShape) -> None:
        super().__init__()
        width, padding = shape.bottleneck, options.padding
        self.norm0 = NormAndActivation(options, kind, shape.in_channels)
        self.conv0 = kind.convolution(shape.in_channels, width, 1, bias=kind.bias)
        self.norm1 = NormAndActivation(options, kind, width)
        self.conv1 = kind.convolution(width, width, 3, shape.stride, padding, bias=kind.bias)
        self.norm2 = NormAndActivation(options, kind, width)
        self.conv2 = kind.convolution(width, shape.out_channels, 1, bias=kind.bias)
        self.stochastic_depth = shape.stochastic_depth(options)
        self.skip_gain = nn.Parameter(torch.tensor(0.0)) if kind.skip_gain else None
        self.conv_shortcut = None
        if shape.has_projection:
            channels = shape.in_channels, shape.out_channels
            self.conv_shortcut = kind.convolution(*channels, 1, shape.stride, bias=kind.bias)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm0(x)
        shortcut = x if self.conv_shortcut is None else self.conv_shortcut(out)
        residual = self.residual_branch(out, 1.0 if self.skip_gain is None else self.skip_gain)
        return self.stochastic_depth(residual) + shortcut  # type: ignore[no-any-return]

    def forward_with_branch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and the residual branch before stochastic depth and the SkipInit scalar."""
        out = self.norm0(x)
        shortcut = x if self.conv_shortcut is None else self.conv_shortcut(out)
        residual = self.residual_branch(out)
        branch_scale = 1.0 if self.skip_gain is None else self.skip_gain
        return add_branch(shortcut, residual, branch_scale, self.stochastic_depth), residual

    def residual_branch(self, out: Tensor, branch_scale: Tensor | float = 1.0) -> Tensor:
        """`branch_scale` times the branch of the normalized, activated block input `out`."""
        out = self.conv1(self.norm1(self.conv0(out)))
        return self.conv2(self.norm2(out), output_scale=branch_scale)  # type: ignore[no-any-return]


class NormAndActivation(nn.Module):
    """Normalization, then activation, or the other way round."""

    def __init__(self, options: ResNetOptions, kind: Kind, channels: int) -> None:
        super().__init__()
        self.norm = kind.norm(channels)
        activation = ACTIVATIONS[options.activation]
        # What a norm made is nobody else's.
        owned = not kind.activation_first and not isinstance(self.norm, nn.Identity)
        self.activation = activation.overwriting if owned else activation.function
        self.activation_first = kind.activation_first

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.activation(x)) if self.activation_first else self.activation(self.norm(x))
        return out


def _nothing(channels: int) -> nn.Module:
    return nn.Identity()
