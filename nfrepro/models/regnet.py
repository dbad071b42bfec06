"""RegNets of inverted bottleneck blocks: the normalizer-free one (code: nf_regnet.py) and its BatchNorm twin.

Parts keep the names of the authors' code: initial_conv, conv0, conv1, conv2, conv_shortcut, skip_gain, final_conv and
linear; squeeze_excite is its `se`. Images and activations are [N, C, H, W].
"""

from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.blocks import (
    BlockShape,
    NormalizerFree,
    NormalizerFreeBlock,
    ResidualBlock,
    SqueezeExcite,
    StochasticDepth,
    standardization,
)
from nfrepro.models.convolutions import Conv2d, ScaledWSConv2d
from nfrepro.models.network import Network
from nfrepro.models.regnet_options import VARIANTS, BNRegNetOptions, NFRegNetOptions, RegNetOptions
from nfrepro.signal import expected_variance

WIDTH_FACTOR = 0.75  # of the table's widths (code: NF_RegNet, width)


def block_shapes(options: RegNetOptions) -> list[list[BlockShape]]:
    """The blocks of each stage. The stem halves the resolution, and so does the first block of every stage.

    The inner width is rounded down to whole groups. Raises `ValueError` if not even one group fits.
    """
    depths = VARIANTS[options.variant].depths
    widths = stage_widths(options)
    shapes: list[list[BlockShape]] = []
    channels, number = widths[0], 0
    for width, depth in zip(widths, depths, strict=True):
        shapes.append([])
        for index in range(depth):
            expanded = _whole(channels * (1.0 if number == 0 else options.expansion), options)
            groups = expanded // options.group_width
            if groups == 0:
                raise InputError(
                    f"stage {len(shapes)}: {channels} channels expand to {expanded}, less than one group of "
                    f"{options.group_width}; use a larger width or a smaller group_width"
                )
            inner = groups * options.group_width
            hidden = _whole(inner * options.squeeze_excite_ratio, options)
            drop_rate = options.stochastic_depth * number / sum(depths)
            shapes[-1].append(BlockShape(channels, inner, width, 1 if index else 2, drop_rate, groups, hidden))
            channels, number = width, number + 1
    return shapes


def stage_widths(options: RegNetOptions) -> list[int]:
    """Channels of the residual stream in each stage; the stem has those of the first."""
    return [_whole(width * WIDTH_FACTOR * options.width, options) for width in VARIANTS[options.variant].widths]


def head_channels(options: RegNetOptions) -> int:
    """Width of the final convolution: 1280 for a last stage of 440 channels, and in proportion for others."""
    last = int(VARIANTS[options.variant].widths[-1] * WIDTH_FACTOR * options.width)
    return _whole(1280 * last // 440, options)


def _whole(channels: float, options: RegNetOptions) -> int:
    """`channels` rounded to a positive multiple of `options.channel_multiple`."""
    multiple = options.channel_multiple
    if multiple == 1:
        return max(1, int(channels))
    nearest = max(multiple, int(channels + multiple / 2) // multiple * multiple)
    return nearest + multiple if nearest < 0.9 * channels else nearest


class RegNet(Network):
    """A 3x3 stride-2 stem, four stages, a 1x1 convolution, global average pool, linear classifier, initially 0."""

    final_conv: Conv2d

    def __init__(self, options: RegNetOptions, num_classes: int) -> None:
        dropout = VARIANTS[options.variant].dropout if options.dropout is None else options.dropout
        super().__init__(dropout, stage_widths(options), [4, 8, 16, 32])
        self.activation = ACTIVATIONS[options.activation].function
        self.add_classifier(head_channels(options), num_classes)


class NFRegNet(NormalizerFree, RegNet):
    """NF-RegNet (paper section 5; code: nf_regnet.py)."""

    def __init__(self, options: NFRegNetOptions, num_classes: int, in_channels: int) -> None:
        super().__init__(options, num_classes)
        gammas = ACTIVATIONS[options.activation].gammas(options.gamma, options.gamma_at)
        self.set_activation(options.activation, gammas)
        widths, how = stage_widths(options), standardization(options)
        self.initial_conv = ScaledWSConv2d(in_channels, widths[0], 3, 2, options.padding, standardization=how)
        ledger = expected_variance(VARIANTS[options.variant].depths, options.alpha)
        for shapes, scales in zip(block_shapes(options), ledger, strict=True):
            blocks = [NFRegNetBlock(options, shape, scale.beta) for shape, scale in zip(shapes, scales, strict=True)]
            self.stages.append(nn.Sequential(*blocks))
        self.final_conv = ScaledWSConv2d(widths[-1], head_channels(options), 1, standardization=how)


class NFRegNetBlock(NormalizerFreeBlock):
    """f = (activation, 1x1, activation, grouped 3x3, squeeze-excite, activation, 1x1)."""

    def __init__(self, options: NFRegNetOptions, shape: BlockShape, beta: float) -> None:
        super().__init__(options, shape, beta, ACTIVATIONS[options.activation].gamma(options.gamma))
        inner, how = shape.inner_channels, standardization(options)
        self.conv0 = ScaledWSConv2d(shape.in_channels, inner, 1, standardization=how)
        self.conv1 = ScaledWSConv2d(inner, inner, 3, shape.stride, options.padding, shape.groups, how)
        self.squeeze_excite = SqueezeExcite(
            inner, shape.hidden_channels, options.squeeze_excite_gain, options.squeeze_excite_init
        )
        self.conv2 = ScaledWSConv2d(inner, shape.out_channels, 1, standardization=how)
        self.shortcut_pools = shape.has_projection
        self.conv_shortcut = None
        if shape.has_projection:
            self.conv_shortcut = ScaledWSConv2d(shape.in_channels, shape.out_channels, 1, standardization=how)


class BNRegNet(RegNet):
    """NF-RegNet's shapes with BatchNorm and activation before each convolution, as in the authors' resnet.py.

    The paper compares with BN-RegNets but releases none, so the placement of the norms is ours.
    """

    normalization = "batch_before_activation"

    def __init__(self, options: BNRegNetOptions, num_classes: int, in_channels: int) -> None:
        super().__init__(options, num_classes)
        widths = stage_widths(options)
        self.initial_conv = Conv2d(in_channels, widths[0], 3, 2, options.padding)
        for shapes in block_shapes(options):
            self.stages.append(nn.Sequential(*[BNRegNetBlock(options, shape) for shape in shapes]))
        self.final_conv = Conv2d(widths[-1], head_channels(options), 1)
        self.final_bn = nn.BatchNorm2d(head_channels(options))
        self.init_plain_convolutions()

    def forward_head(self, x: Tensor) -> Tensor:
        return self.activation(self.final_bn(self.final_conv(x))).mean((2, 3))


class BNRegNetBlock(ResidualBlock):
    """x + f(x), f = (BN, activation, 1x1, BN, activation, grouped 3x3, SE, BN, activation, 1x1).

    Squeeze-excite needs no gain here: the norm that follows removes any constant factor.
    """

    def __init__(self, options: BNRegNetOptions, shape: BlockShape) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[options.activation].function
        inner = shape.inner_channels
        self.bn0 = nn.BatchNorm2d(shape.in_channels)
        self.conv0 = Conv2d(shape.in_channels, inner, 1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv1 = Conv2d(inner, inner, 3, shape.stride, options.padding, groups=shape.groups)
        self.squeeze_excite = SqueezeExcite(inner, shape.hidden_channels, 1.0, options.squeeze_excite_init)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = Conv2d(inner, shape.out_channels, 1)
        self.shortcut_pools = shape.has_projection
        self.conv_shortcut = Conv2d(shape.in_channels, shape.out_channels, 1) if shape.has_projection else None
        self.stochastic_depth = StochasticDepth(shape.drop_rate, options.stochastic_depth_rescale)

    def activated(self, x: Tensor) -> Tensor:
        return self.activation(self.bn0(x))

    def residual_branch(self, out: Tensor, branch_scale: Tensor | float = 1.0) -> Tensor:
        out = self.conv0(out)
        out = self.squeeze_excite(self.conv1(self.activation(self.bn1(out))))
        return self.conv2(self.activation(self.bn2(out)), output_scale=branch_scale)  # type: ignore[no-any-return]
