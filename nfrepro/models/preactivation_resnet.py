"""Version 2 (pre-activation) ResNets that the paper compares with (code: resnet.py, skipinit_resnet.py).

They have BatchNorm in either order, GroupNorm with Weight Standardization, no normalization, or SkipInit.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.blocks import BlockShape, ResidualBlock, StochasticDepth
from nfrepro.models.convolutions import Conv2d, WSConv2d
from nfrepro.models.options import (
    BNResNetOptions,
    GNWSResNetOptions,
    ResNetOptions,
    SkipInitResNetOptions,
    UnnormalizedResNetOptions,
)
from nfrepro.models.resnet import ResNet, block_shapes, stem_sizes
from nfrepro.signal.prediction import Normalization

# Variance of the initial weights times fan-in; None: Haiku's default.
INIT_SCALE = {"lecun": 1.0, "he": 2.0, "haiku": None}


@dataclass(frozen=True)
class Kind:
    """The differences between families."""

    norm: Callable[[int], nn.Module]  # from the number of channels
    init_scale: float | None  # variance of the initial weights times fan-in; None: Haiku's default
    convolution: type[Conv2d] = Conv2d
    bias: bool = False
    stem_bias: bool = False
    normalization: Normalization = "none"
    skip_gain: bool = False  # SkipInit


def bn_resnet(options: BNResNetOptions, num_classes: int, in_channels: int) -> ResNet:
    """BN-ResNet V2; running averages decay by 0.9 (code)."""
    normalization: Normalization = (
        "batch_after_activation" if options.order == "relu_bn_conv" else "batch_before_activation"
    )
    kind = Kind(nn.BatchNorm2d, INIT_SCALE[options.conv_init], normalization=normalization)
    return PreactivationResNet(options, kind, num_classes, in_channels)


def gn_ws_resnet(options: GNWSResNetOptions, num_classes: int, in_channels: int) -> ResNet:
    """GroupNorm and plain Weight Standardization. Raises `ValueError` for a width not divisible by `norm_groups`."""

    def norm(channels: int) -> nn.Module:
        if channels % options.norm_groups:
            raise InputError(f"{channels} channels do not divide into norm_groups = {options.norm_groups}")
        return nn.GroupNorm(options.norm_groups, channels)

    kind = Kind(norm, 1.0, convolution=WSConv2d, normalization="group_before_activation")
    return PreactivationResNet(options, kind, num_classes, in_channels)


def unnormalized_resnet(options: UnnormalizedResNetOptions, num_classes: int, in_channels: int) -> ResNet:
    """Nothing in place of BatchNorm: the variance grows exponentially with depth."""
    return PreactivationResNet(options, Kind(_nothing, 2.0, bias=True, stem_bias=True), num_classes, in_channels)


def skipinit_resnet(options: SkipInitResNetOptions, num_classes: int, in_channels: int) -> ResNet:
    """SkipInit: every branch is 0 at initialisation (code: skipinit_resnet.py).

    Convolutions are plain, with Haiku's default initial weights and, except in the stem, a bias.
    """
    return PreactivationResNet(options, Kind(_nothing, None, bias=True, skip_gain=True), num_classes, in_channels)


class PreactivationResNet(ResNet):
    """x + f(x), f = (norm, activation, 1x1, norm, activation, 3x3, norm, activation, 1x1)."""

    def __init__(self, options: ResNetOptions, kind: Kind, num_classes: int, in_channels: int) -> None:
        super().__init__(options)
        self.activation, self.normalization = ACTIVATIONS[options.activation].function, kind.normalization
        self.initial_conv = kind.convolution(in_channels, *stem_sizes(options), options.padding, bias=kind.stem_bias)
        for shapes in block_shapes(options):
            self.stages.append(nn.Sequential(*[PreactivationBlock(options, kind, shape) for shape in shapes]))
        self.final_norm = NormAndActivation(options, kind, shapes[-1].out_channels)
        self.add_classifier(shapes[-1].out_channels, num_classes)
        self.init_plain_convolutions(kind.init_scale)

    def forward_head(self, x: Tensor) -> Tensor:
        out: Tensor = self.final_norm(x).mean((2, 3))
        return out


class PreactivationBlock(ResidualBlock):
    """One block; the shortcut of a transition block takes the normalized, activated signal."""

    def __init__(self, options: ResNetOptions, kind: Kind, shape: BlockShape) -> None:
        super().__init__()
        width, padding = shape.inner_channels, options.padding
        self.norm0 = NormAndActivation(options, kind, shape.in_channels)
        self.conv0 = kind.convolution(shape.in_channels, width, 1, bias=kind.bias)
        self.norm1 = NormAndActivation(options, kind, width)
        self.conv1 = kind.convolution(width, width, 3, shape.stride, padding, bias=kind.bias)
        self.norm2 = NormAndActivation(options, kind, width)
        self.conv2 = kind.convolution(width, shape.out_channels, 1, bias=kind.bias)
        self.stochastic_depth = StochasticDepth(shape.drop_rate, options.stochastic_depth_rescale)
        self.skip_gain = nn.Parameter(torch.tensor(0.0)) if kind.skip_gain else None
        self.initial_skip_gain = 0.0 if kind.skip_gain else 1.0
        self.conv_shortcut = None
        if shape.has_projection:
            channels = shape.in_channels, shape.out_channels
            self.conv_shortcut = kind.convolution(*channels, 1, shape.stride, bias=kind.bias)

    @property
    def branch_scale(self) -> Tensor | float:  # type: ignore[override]
        """The SkipInit scalar, or 1 if there is none."""
        return 1.0 if self.skip_gain is None else self.skip_gain

    def activated(self, x: Tensor) -> Tensor:
        return self.norm0(x)  # type: ignore[no-any-return]

    def residual_branch(self, out: Tensor, branch_scale: Tensor | float = 1.0) -> Tensor:
        out = self.conv1(self.norm1(self.conv0(out)))
        return self.conv2(self.norm2(out), output_scale=branch_scale)  # type: ignore[no-any-return]


class NormAndActivation(nn.Module):
    """Normalization followed by activation, or the other way round."""

    def __init__(self, options: ResNetOptions, kind: Kind, channels: int) -> None:
        super().__init__()
        self.norm = kind.norm(channels)
        activation = ACTIVATIONS[options.activation]
        # Nothing else needs a norm's output, so the activation may overwrite it.
        self.activation_first = kind.normalization == "batch_after_activation"
        owned = not self.activation_first and not isinstance(self.norm, nn.Identity)
        self.activation = activation.overwriting if owned else activation.function

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.activation(x)) if self.activation_first else self.activation(self.norm(x))
        return out


def _nothing(channels: int) -> nn.Module:
    return nn.Identity()
