"""Pre-activation bottleneck ResNets: the normalizer-free one and its BatchNorm twin (code: nf_resnet.py, resnet.py).

Parts keep the names of the authors' code: initial_conv, conv0, conv1, conv2, conv_shortcut, skip_gain, bn0 to final_bn
and linear. Images and activations are [N, C, H, W].
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.convolutions import Conv2d, Padding, ScaledWSConv2d, init_truncated_normal, pad_to_same
from nfrepro.models.options import BNResNetOptions, NFResNetOptions, ResNetOptions
from nfrepro.signal import expected_variance

STAGE_WIDTHS = (256, 512, 1024, 2048, 4096, 8192)  # the paper's four, doubled on for networks with more stages
BOTTLENECK_RATIO = 0.25  # inner width of a block over its output width


@dataclass(frozen=True)
class Stem:
    """The first convolution, and the 3x3 stride-2 max pool that may follow it."""

    kernel_size: int
    stride: int
    max_pool: bool


STEMS = {
    "imagenet": Stem(kernel_size=7, stride=2, max_pool=True),
    "small": Stem(kernel_size=3, stride=1, max_pool=False),
    "small_stride2": Stem(kernel_size=3, stride=2, max_pool=False),
}


@dataclass(frozen=True)
class BlockShape:
    """Where one residual block stands and what goes in and out of it."""

    stage: int
    index: int  # within the stage
    in_channels: int
    out_channels: int
    stride: int

    @property
    def bottleneck(self) -> int:
        return max(1, int(self.out_channels * BOTTLENECK_RATIO))

    @property
    def has_projection(self) -> bool:
        """A transition block: the first of its stage changes the width or the resolution."""
        return self.stride > 1 or self.in_channels != self.out_channels


def stem_channels(options: ResNetOptions) -> int:
    """64 at the paper's width."""
    return _scaled(64, options.width)


def block_shapes(options: ResNetOptions) -> list[list[BlockShape]]:
    """The blocks of each stage. Every stage but the first halves the resolution in its first block."""
    shapes = []
    channels = stem_channels(options)
    for stage, count in enumerate(options.blocks):
        width = _scaled(STAGE_WIDTHS[stage], options.width)
        stride = 1 if stage == 0 else 2
        first = BlockShape(stage, 0, channels, width, stride)
        rest = [BlockShape(stage, index, width, width, 1) for index in range(1, count)]
        shapes.append([first, *rest])
        channels = width
    return shapes


class ResNet(nn.Module):
    """Stem, stages of residual blocks, global average pool, linear classifier. Returns logits [N, num_classes]."""

    initial_conv: Conv2d
    linear: nn.Linear

    def __init__(self, options: ResNetOptions) -> None:
        super().__init__()
        self.options = options
        self.stem = STEMS[options.stem]
        self.stages = nn.ModuleList()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(self.forward_pool(x))
        return out

    def forward_pool(self, x: Tensor) -> Tensor:
        """The pooled features that the classifier reads, [N, C]."""
        x = self.forward_stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.forward_head(x)

    def forward_stem(self, x: Tensor) -> Tensor:
        """First convolution and max pool; no activation (code). Raises `ValueError` for images of another shape."""
        channels = self.initial_conv.in_channels
        if x.ndim != 4 or x.shape[1] != channels:
            raise InputError(f"images must be [N, {channels}, H, W], got {list(x.shape)}")
        x = self.initial_conv(x)
        return _max_pool(x, self.options.padding) if self.stem.max_pool else x

    def forward_head(self, x: Tensor) -> Tensor:
        """Last activation and global average pool."""
        raise NotImplementedError


class NFResNet(ResNet):
    """NF-ResNet (paper section 4; code: nf_resnet.py)."""

    def __init__(self, options: NFResNetOptions, num_classes: int, in_channels: int) -> None:
        super().__init__(options)
        activation = ACTIVATIONS[options.activation]
        self.activation = activation.function
        self.gamma = activation.gamma(options.gamma)
        self.initial_conv = ScaledWSConv2d(
            in_channels, stem_channels(options), self.stem.kernel_size, self.stem.stride, options.padding
        )
        ledger = expected_variance(options.blocks, options.alpha)
        for shapes, scales in zip(block_shapes(options), ledger, strict=True):
            blocks = [NFBlock(options, shape, scale.beta) for shape, scale in zip(shapes, scales, strict=True)]
            self.stages.append(nn.Sequential(*blocks))
        self.linear = nn.Linear(shapes[-1].out_channels, num_classes)
        nn.init.normal_(self.linear.weight, std=0.01)  # code: nf_resnet.py
        nn.init.zeros_(self.linear.bias)

    def forward_head(self, x: Tensor) -> Tensor:
        # gamma is a constant, so that scaling the pooled vector equals scaling the activation.
        return self.activation(x).mean((2, 3)) * self.gamma


class NFBlock(nn.Module):
    """x + alpha * skip_gain * f(x / beta), f = (activation, 1x1, activation, 3x3, activation, 1x1).

    beta and gamma act on the activated signal, as in the authors' code: for ReLU-like activations that equals
    f(x / beta); for others, such as SiLU, it does not. They are constants, so they act through the weights that the
    signal meets next. In a transition block the shortcut takes the activated, scaled signal too: this resets the
    variance to 1 there.
    """

    def __init__(self, options: NFResNetOptions, shape: BlockShape, beta: float) -> None:
        super().__init__()
        activation = ACTIVATIONS[options.activation]
        self.activation = activation.function
        self.gamma = activation.gamma(options.gamma)
        self.beta = beta
        self.alpha = options.alpha
        width, padding = shape.bottleneck, options.padding
        self.conv0 = ScaledWSConv2d(shape.in_channels, width, 1)
        self.conv1 = ScaledWSConv2d(width, width, 3, shape.stride, padding)
        self.conv2 = ScaledWSConv2d(width, shape.out_channels, 1)
        self.conv_shortcut = (
            ScaledWSConv2d(shape.in_channels, shape.out_channels, 1, shape.stride) if shape.has_projection else None
        )
        self.skip_gain = (
            None if options.skipinit_gain is None else nn.Parameter(torch.tensor(float(options.skipinit_gain)))
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.activation(x)
        scale = self.gamma / self.beta
        shortcut = x if self.conv_shortcut is None else self.conv_shortcut(out, input_scale=scale)
        branch_scale = self.alpha if self.skip_gain is None else self.alpha * self.skip_gain
        residual: Tensor = self.residual_branch(out, scale, branch_scale)
        return residual + shortcut

    def residual_branch(self, out: Tensor, scale: float, branch_scale: Tensor | float) -> Tensor:
        """`branch_scale` times the branch of the activated block input `out`, which `scale` brings to unit variance."""
        out = self.conv0(out, input_scale=scale)
        out = self.conv1(self.activation(out), input_scale=self.gamma)
        return self.conv2(self.activation(out), input_scale=self.gamma, output_scale=branch_scale)  # type: ignore[no-any-return]


class BNResNet(ResNet):
    """BN-ResNet V2, BN-ReLU-Conv (code: resnet.py)."""

    def __init__(self, options: BNResNetOptions, num_classes: int, in_channels: int) -> None:
        super().__init__(options)
        self.activation = ACTIVATIONS[options.activation].function
        self.initial_conv = Conv2d(
            in_channels, stem_channels(options), self.stem.kernel_size, self.stem.stride, options.padding
        )
        for shapes in block_shapes(options):
            self.stages.append(nn.Sequential(*[BNBlock(options, shape) for shape in shapes]))
        self.final_bn = nn.BatchNorm2d(shapes[-1].out_channels)
        self.linear = nn.Linear(shapes[-1].out_channels, num_classes)
        for module in self.modules():
            if isinstance(module, Conv2d):
                init_truncated_normal(module.weight, {"lecun": 1.0, "he": 2.0}[options.conv_init])
        nn.init.zeros_(self.linear.weight)  # code: resnet.py
        nn.init.zeros_(self.linear.bias)

    def forward_head(self, x: Tensor) -> Tensor:
        return self.activation(self.final_bn(x)).mean((2, 3))


class BNBlock(nn.Module):
    """x + f(x), f = (BN, activation, 1x1, BN, activation, 3x3, BN, activation, 1x1); running averages decay by 0.9."""

    def __init__(self, options: BNResNetOptions, shape: BlockShape) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[options.activation].function
        width, padding = shape.bottleneck, options.padding
        self.bn0 = nn.BatchNorm2d(shape.in_channels)
        self.conv0 = Conv2d(shape.in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = Conv2d(width, width, 3, shape.stride, padding)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = Conv2d(width, shape.out_channels, 1)
        self.conv_shortcut = (
            Conv2d(shape.in_channels, shape.out_channels, 1, shape.stride) if shape.has_projection else None
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.activation(self.bn0(x))
        shortcut = x if self.conv_shortcut is None else self.conv_shortcut(out)
        return self.residual_branch(out) + shortcut

    def residual_branch(self, out: Tensor) -> Tensor:
        """The branch of the normalized, activated block input `out`."""
        out = self.conv0(out)
        out = self.conv1(self.activation(self.bn1(out)))
        return self.conv2(self.activation(self.bn2(out)))  # type: ignore[no-any-return]


def _scaled(channels: int, width: float) -> int:
    return max(1, int(channels * width))


def _max_pool(x: Tensor, padding: Padding) -> Tensor:
    if padding == "same":
        return F.max_pool2d(pad_to_same(x, 3, 2, value=float("-inf")), 3, 2)
    return F.max_pool2d(x, 3, 2, 1)
