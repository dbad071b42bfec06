"""NFNets (arXiv 2102.06171; code: nfnet.py): this paper's signal propagation in a wider, costlier block.

Parts keep the names of the authors' code: conv0, conv1, conv1b, conv2, conv_shortcut, skip_gain, final_conv;
initial_conv is its stem_conv0, squeeze_excite its `se` and linear its `fc`. Images and activations are [N, C, H, W].
"""

from torch import nn

from nfrepro.errors import InputError
from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.blocks import BlockShape, NormalizerFree, NormalizerFreeBlock, SqueezeExcite, standardization
from nfrepro.models.convolutions import ScaledWSConv2d
from nfrepro.models.network import Network
from nfrepro.models.nfnet_options import VARIANTS, NFNetOptions
from nfrepro.signal import expected_variance

STEM_WIDTHS = (16, 32, 64, 128)  # of four 3x3 convolutions, the first and the last with stride 2 (code)
STAGE_WIDTHS = (256, 512, 1536, 1536)


def block_shapes(options: NFNetOptions) -> list[list[BlockShape]]:
    """The blocks of each stage. Every stage but the first halves the resolution in its first block.

    The inner width is rounded down to whole groups. Raises `ValueError` if not even one group fits.
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
            widths = (channels, groups * options.group_width, width)
            shapes[-1].append(BlockShape(*widths, stride, drop_rate, groups, hidden))
            channels, number = width, number + 1
    return shapes


def stage_widths(options: NFNetOptions) -> list[int]:
    """Channels of the residual stream in each stage."""
    return [max(1, int(width * options.width)) for width in STAGE_WIDTHS]


class NFNet(NormalizerFree, Network):
    """A stem of four 3x3 convolutions, four stages, a 1x1 convolution, global average pool, linear classifier."""

    fed = ("stem_conv1", "stem_conv2", "stem_conv3")

    def __init__(self, options: NFNetOptions, num_classes: int, in_channels: int) -> None:
        variant, widths, how = VARIANTS[options.variant], stage_widths(options), standardization(options)
        dropout = variant.dropout if options.dropout is None else options.dropout
        super().__init__(dropout, widths, [4, 8, 16, 32])
        gammas = ACTIVATIONS[options.activation].gammas(options.gamma, options.gamma_at)
        self.set_activation(options.activation, gammas)
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


class NFNetBlock(NormalizerFreeBlock):
    """f = (activation, 1x1, activation, grouped 3x3, activation, grouped 3x3, activation, 1x1, squeeze-excite)."""

    middle = ("conv1", "conv1b")
    ends_in_squeeze_excite = True

    def __init__(self, options: NFNetOptions, shape: BlockShape, beta: float) -> None:
        super().__init__(options, shape, beta, ACTIVATIONS[options.activation].gamma(options.gamma))
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
