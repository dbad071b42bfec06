"""NFNets (arXiv 2102.06171; code: nfnet.py): this paper's signal propagation in a wider, costlier block.

Parts keep the names of the authors' code: conv0, conv1, conv1b, conv2, conv_shortcut, skip_gain, final_conv;
initial_conv is its stem_conv0, squeeze_excite its `se` and linear its `fc`. Images and activations are [N, C, H, W].
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.convolutions import ScaledWSConv2d, Standardization
from nfrepro.models.network import Network
from nfrepro.models.nfnet_options import VARIANTS, NFNetOptions
from nfrepro.models.residual import NormalizerFreeBlock, SqueezeExcite, StochasticDepth, average_pool
from nfrepro.signal import expected_variance

STEM_WIDTHS = (16, 32, 64, 128)  # of four 3x3 convolutions, the first and the last with stride 2 (code)
STAGE_WIDTHS = (256, 512, 1536, 1536)


@dataclass(frozen=True)
class BlockShape:
    """Position of one residual block, and the widths of its input and output."""

    in_channels: int
    inner_channels: int  # of the 3x3 convolutions
    out_channels: int
    groups: int  # of the 3x3 convolutions
    hidden_channels: int  # of squeeze-excite
    stride: int
    drop_rate: float  # of stochastic depth

    @property
    def has_projection(self) -> bool:
        """A transition block: the first of its stage changes the width or the resolution."""
        return self.stride > 1 or self.in_channels != self.out_channels


def block_shapes(options: NFNetOptions) -> list[list[BlockShape]]:
    """The blocks of each stage. Every stage but the first halves the resolution in its first block.

    The inner width is rounded down to whole groups. Raises `ValueError` where not even one group fits.
    """
    depths = VARIANTS[options.variant].depths
    shapes: list[list[BlockShape]] = []
    channels, number = STEM_WIDTHS[-1], 0
    for stage, (width, depth) in enumerate(zip(stage_widths(options), depths, strict=True)):
        shapes.append([])
        inner = int(width * options.bottleneck_ratio)
        groups = inner // options.group_width
        if groups == 0:
            raise InputError(
                f"stage {stage + 1}: {width} channels have a bottleneck of {inner}, less than one group of "
                f"{options.group_width}; use a larger width or a smaller group_width"
            )
        hidden = max(1, int(width * options.squeeze_excite_ratio))
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            drop_rate = options.stochastic_depth * number / sum(depths)
            sizes = (channels, groups * options.group_width, width, groups, hidden)
            shapes[-1].append(BlockShape(*sizes, stride, drop_rate))
            channels, number = width, number + 1
    return shapes


def stage_widths(options: NFNetOptions) -> list[int]:
    """Channels of the residual stream in each stage."""
    return [max(1, int(width * options.width)) for width in STAGE_WIDTHS]


class NFNet(Network):
    """A stem of four 3x3 convolutions, four stages, a 1x1 convolution, global average pool, linear classifier."""

    def __init__(self, options: NFNetOptions, num_classes: int, in_channels: int) -> None:
        variant, widths, how = VARIANTS[options.variant], stage_widths(options), standardization(options)
        dropout = variant.dropout if options.dropout is None else options.dropout
        super().__init__(dropout, widths, [4, 8, 16, 32])
        activation = ACTIVATIONS[options.activation]
        self.activation = activation.function
        self.gamma = activation.gamma(options.gamma)  # once for each activation, wherever it acts
        self.gamma_after_activation, self.gamma_in_weight = activation.gammas(options.gamma, options.gamma_at)
        stem = (in_channels, *STEM_WIDTHS)
        self.initial_conv, self.stem_conv1, self.stem_conv2, self.stem_conv3 = (
            ScaledWSConv2d(channels, width, 3, stride, options.padding, standardization=how)
            for channels, width, stride in zip(stem, STEM_WIDTHS, (2, 1, 1, 2), strict=False)
        )
        ledger = expected_variance(variant.depths, options.alpha)
        for shapes, scales in zip(block_shapes(options), ledger, strict=True):
            blocks = [NFNetBlock(options, shape, scale.beta) for shape, scale in zip(shapes, scales, strict=True)]
            self.stages.append(nn.Sequential(*blocks))
        head_channels = max(1, int(widths[-1] * options.final_ratio))
        self.final_conv = ScaledWSConv2d(widths[-1], head_channels, 1, standardization=how)
        self.add_classifier(head_channels, num_classes, std=0.01)  # code: nfnet.py

    def stem_output(self, x: Tensor) -> Tensor:
        out = self.initial_conv(x, input_scale=self.gamma_in_weight)
        for convolution in (self.stem_conv1, self.stem_conv2, self.stem_conv3):
            out = convolution(self.activation(out), input_scale=self.gamma)
        return out  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor) -> Tensor:
        out = self.activation(self.final_conv(x, input_scale=self.gamma_in_weight))
        # gamma is a constant, so that scaling the pooled vector equals scaling the activation.
        return out.mean((2, 3)) * self.gamma_after_activation


class NFNetBlock(NormalizerFreeBlock):
    """x + alpha * skip_gain * f(x / beta).

    f = (activation, 1x1, activation, grouped 3x3, activation, grouped 3x3, activation, 1x1, squeeze-excite).

    gamma and, by default, beta act on the activated signal, as in the authors' code, and through the weights that it
    meets next. In
    a transition block the shortcut is a 1x1 convolution of the activated, scaled signal, behind a 2x2 average pool
    where the resolution changes: the pool does not keep the variance, it leaves 1/4 where pixels are independent.
    """

    def __init__(self, options: NFNetOptions, shape: BlockShape, beta: float) -> None:
        super().__init__()
        activation = ACTIVATIONS[options.activation]
        self.activation = activation.function
        self.gamma = activation.gamma(options.gamma)  # once for each activation, wherever it acts
        self.set_beta(beta, options.beta_at)
        self.alpha = options.alpha
        inner, how = shape.inner_channels, standardization(options)
        self.conv0 = ScaledWSConv2d(shape.in_channels, inner, 1, standardization=how)
        self.conv1 = ScaledWSConv2d(inner, inner, 3, shape.stride, options.padding, shape.groups, how)
        self.conv1b = ScaledWSConv2d(inner, inner, 3, 1, options.padding, shape.groups, how)
        self.conv2 = ScaledWSConv2d(inner, shape.out_channels, 1, standardization=how)
        self.squeeze_excite = SqueezeExcite(
            shape.out_channels, shape.hidden_channels, options.squeeze_excite_gain, options.squeeze_excite_init
        )
        self.shortcut_pools = shape.stride > 1
        self.conv_shortcut = None
        if shape.has_projection:
            self.conv_shortcut = ScaledWSConv2d(shape.in_channels, shape.out_channels, 1, standardization=how)
        self.stochastic_depth = StochasticDepth(shape.drop_rate, options.stochastic_depth_rescale)
        self.skip_gain = (
            None if options.skipinit_gain is None else nn.Parameter(torch.tensor(float(options.skipinit_gain)))
        )

    def residual_branch(self, out: Tensor, scale: float, branch_scale: Tensor | float) -> Tensor:
        """`branch_scale` times the branch of the activated block input `out`, which `scale` brings to unit variance."""
        out = self.conv0(out, input_scale=scale)
        for convolution in (self.conv1, self.conv1b, self.conv2):
            out = convolution(self.activation(out), input_scale=self.gamma)
        # The gates are no linear function of what they see: only behind them may the branch be scaled.
        return self.squeeze_excite(out, output_scale=branch_scale)  # type: ignore[no-any-return]

    def shortcut(self, x: Tensor, out: Tensor) -> Tensor:
        """The skip path of the block input `x`, activated `out`."""
        if self.conv_shortcut is None:
            return x
        source = average_pool(out) if self.shortcut_pools else out
        return self.conv_shortcut(source, input_scale=self.gamma / self.beta)  # type: ignore[no-any-return]


def standardization(options: NFNetOptions) -> Standardization:
    """How all weights are standardized."""
    return Standardization(epsilon=options.ws_epsilon, variance=options.ws_variance)
