"""torchvision's EfficientNets, with parts named as in the other families (arXiv 1905.11946).

Parts: initial_conv, initial_bn, stages of torchvision's MBConv blocks, final (1x1 convolution, BatchNorm, SiLU) and
linear. Images and activations are [N, C, H, W].
"""

import itertools
import operator
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn

from nfrepro.models.convolutions import Conv2d
from nfrepro.models.efficientnet_options import VARIANTS, EfficientNetOptions
from nfrepro.models.network import Network

# Torchvision's models import torch's compiler, which takes seconds, so only functions that need them import them.
if TYPE_CHECKING:
    from torchvision.models.efficientnet import MBConvConfig

# Stages of B0, one per row: inner width over input width, kernel size, stride, input and output channels, blocks.
STAGES = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)


def stages(options: EfficientNetOptions) -> "list[MBConvConfig]":
    """Torchvision's description of each stage."""
    from torchvision.models.efficientnet import MBConvConfig

    variant = VARIANTS[options.variant]
    multipliers = {"width_mult": options.width * variant.width, "depth_mult": variant.depth}
    return [MBConvConfig(*stage, **multipliers) for stage in STAGES]


class EfficientNet(Network):
    """A 3x3 stride-2 stem, seven stages, a 1x1 convolution, global average pool, linear classifier.

    Weights are initialised as in torchvision. The first block of most stages has no shortcut, since its width changes.
    """

    def __init__(self, options: EfficientNetOptions, num_classes: int, in_channels: int) -> None:
        from torchvision.models import efficientnet

        variant, shapes = VARIANTS[options.variant], stages(options)
        dropout = variant.dropout if options.dropout is None else options.dropout
        strides = itertools.accumulate((shape.stride for shape in shapes), operator.mul, initial=2)
        super().__init__(dropout, [shape.out_channels for shape in shapes], list(strides)[1:])
        norm = partial(nn.BatchNorm2d, eps=variant.norm_epsilon, momentum=variant.norm_momentum)
        theirs = efficientnet.EfficientNet(shapes, dropout, options.stochastic_depth, num_classes, norm)
        stem, *blocks, self.final = theirs.features
        # Torchvision's own first convolution takes images of three channels only.
        self.initial_conv = Conv2d(in_channels, shapes[0].input_channels, 3, 2, padding="torch")
        nn.init.kaiming_normal_(self.initial_conv.weight, mode="fan_out")
        _, self.initial_bn, self.activation = stem
        self.stages.extend(blocks)
        _, self.linear = theirs.classifier

    def stem_output(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.initial_bn(self.initial_conv(x)))
        return out

    def forward_head(self, x: Tensor) -> Tensor:
        out: Tensor = self.final(x).mean((2, 3))
        return out
