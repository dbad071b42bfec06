"""Base of every ResNet of the paper: stem, stages, widths, strides, head (code: nf_resnet.py, resnet.py).

Parts keep the names of the authors' code: initial_conv, conv0, conv1, conv2, conv_shortcut, skip_gain and linear; norms
are norm0 to final_norm instead of bn0 to final_bn. Images and activations are [N, C, H, W].
"""

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from nfrepro.models.blocks import BlockShape
from nfrepro.models.convolutions import Padding, pad_to_same
from nfrepro.models.network import Network
from nfrepro.models.options import ResNetOptions
from nfrepro.signal.moment_maps import Window
from nfrepro.signal.prediction import Stem as SignalStem

STAGE_WIDTHS = (256, 512, 1024, 2048, 4096, 8192)  # the paper's four, then further doublings for more stages
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


def stem_channels(options: ResNetOptions) -> int:
    """Channels of the stem: 64 at the paper's width."""
    return _scaled(64, options.width)


def stem_sizes(options: ResNetOptions) -> tuple[int, int, int]:
    """Channels, kernel size and stride of the first convolution."""
    return stem_channels(options), STEMS[options.stem].kernel_size, STEMS[options.stem].stride


def block_shapes(options: ResNetOptions) -> list[list[BlockShape]]:
    """The blocks of each stage. Every stage but the first halves the resolution in its first block."""
    shapes: list[list[BlockShape]] = []
    channels, number = stem_channels(options), 0
    for stage, count in enumerate(options.blocks):
        shapes.append([])
        width = _scaled(STAGE_WIDTHS[stage], options.width)
        inner = max(1, int(width * BOTTLENECK_RATIO))
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            drop_rate = options.stochastic_depth * number / sum(options.blocks)
            shapes[-1].append(BlockShape(channels, inner, width, stride, drop_rate))
            channels, number = width, number + 1
    return shapes


class ResNet(Network):
    """A network of bottleneck blocks. Its stem has no activation (code), unless the family adds one."""

    def __init__(self, options: ResNetOptions) -> None:
        stem = STEMS[options.stem]
        first = stem.stride * (2 if stem.max_pool else 1)
        strides = [first * 2**stage for stage in range(len(options.blocks))]
        channels = [shapes[-1].out_channels for shapes in block_shapes(options)]
        super().__init__(options.dropout, channels, strides)
        self.stem_shape = stem
        self.padding: Padding = options.padding

    def stem_output(self, x: Tensor) -> Tensor:
        x = self.convolve_stem(x)
        return _max_pool(x, self.padding) if self.stem_shape.max_pool else x

    def describe_stem(self) -> SignalStem:
        return replace(super().describe_stem(), max_pool=self.stem_shape.max_pool, pool=Window(3, 2, self.padding))


def _scaled(channels: int, width: float) -> int:
    return max(1, int(channels * width))


def _max_pool(x: Tensor, padding: Padding) -> Tensor:
    if padding == "same":
        return F.max_pool2d(pad_to_same(x, 3, 2, value=float("-inf")), 3, 2)
    return F.max_pool2d(x, 3, 2, 1)
