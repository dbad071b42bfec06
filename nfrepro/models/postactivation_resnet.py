"""Version 1 (post-activation) ResNets: BatchNorm after each convolution, and FixUp (code: fixup_resnet.py)."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.blocks import BlockShape, StochasticDepth
from nfrepro.models.convolutions import CUT_VARIANCE, Conv2d, init_haiku_default
from nfrepro.models.options import BNResNetOptions, FixUpResNetOptions
from nfrepro.models.preactivation_resnet import INIT_SCALE
from nfrepro.models.resnet import ResNet, block_shapes, stem_channels, stem_sizes
from nfrepro.signal import DeclaredBlock, NetworkDescription
from nfrepro.signal.moment_maps import Window
from nfrepro.signal.prediction import BlockDescription, Convolution


class BNResNetV1(ResNet):
    """activation(shortcut + f(x)), f = (1x1, BN, activation, 3x3, BN, activation, 1x1, BN); stride in the 3x3."""

    def __init__(self, options: BNResNetOptions, num_classes: int, in_channels: int) -> None:
        super().__init__(options)
        self.activation = ACTIVATIONS[options.activation].function
        self.initial_conv = Conv2d(in_channels, *stem_sizes(options), options.padding)
        self.initial_norm = nn.BatchNorm2d(stem_channels(options))
        for shapes in block_shapes(options):
            self.stages.append(nn.Sequential(*[BNBlockV1(options, shape) for shape in shapes]))
        self.add_classifier(shapes[-1].out_channels, num_classes)
        self.init_plain_convolutions(INIT_SCALE[options.conv_init])

    def convolve_stem(self, x: Tensor) -> Tensor:
        return self.activation(self.initial_norm(self.initial_conv(x)))

    def forward_head(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class BNBlockV1(DeclaredBlock):
    """One block; the shortcut of a transition block has its own BatchNorm."""

    def __init__(self, options: BNResNetOptions, shape: BlockShape) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[options.activation].function
        width = shape.inner_channels
        self.conv0, self.norm0 = Conv2d(shape.in_channels, width, 1), nn.BatchNorm2d(width)
        self.conv1, self.norm1 = Conv2d(width, width, 3, shape.stride, options.padding), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = Conv2d(width, shape.out_channels, 1), nn.BatchNorm2d(shape.out_channels)
        self.stochastic_depth = StochasticDepth(shape.drop_rate, options.stochastic_depth_rescale)
        self.shortcut = None
        if shape.has_projection:
            projection = Conv2d(shape.in_channels, shape.out_channels, 1, shape.stride)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(shape.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return self.activation(shortcut + self.stochastic_depth(self.residual_branch(x)))

    def residual_branch(self, x: Tensor) -> Tensor:
        """The branch of the block input `x`."""
        out = self.activation(self.norm0(self.conv0(x)))
        out = self.activation(self.norm1(self.conv1(out)))
        return self.norm2(self.conv2(out))  # type: ignore[no-any-return]


class FixUpResNet(ResNet):
    """FixUp: initial weights scaled down by the number of blocks, scalar biases around layers (arXiv 1901.09321)."""

    def __init__(self, options: FixUpResNetOptions, num_classes: int, in_channels: int) -> None:
        super().__init__(options)
        self.activation = ACTIVATIONS[options.activation].function
        self.initial_conv = Conv2d(in_channels, *stem_sizes(options), options.padding)
        init_haiku_default(self.initial_conv.weight)
        self.initial_conv.initial_scale = CUT_VARIANCE
        self.bias_stem, self.bias_head = _scalar(0.0), _scalar(0.0)
        for shapes in block_shapes(options):
            self.stages.append(nn.Sequential(*[FixUpBlock(options, shape) for shape in shapes]))
        self.add_classifier(shapes[-1].out_channels, num_classes)

    def convolve_stem(self, x: Tensor) -> Tensor:
        return self.activation(self.initial_conv(x) + self.bias_stem)

    def forward_head(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))

    def describe(self) -> NetworkDescription:
        description = super().describe()
        return replace(description, stem=replace(description.stem, activated=True), post_activation=True)

    def classify(self, pooled: Tensor) -> Tensor:
        # The bias comes after dropout (code: fixup_resnet.py).
        return self.linear(self.dropout(pooled) + self.bias_head)  # type: ignore[no-any-return]


class FixUpBlock(DeclaredBlock):
    """activation(shortcut + multiplier * f(x + bias1a) + bias3b), where f has scalar biases around every layer.

    The shortcut starts from x + bias1a, too (code: fixup_resnet.py).
    """

    def __init__(self, options: FixUpResNetOptions, shape: BlockShape) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[options.activation].function
        width = shape.inner_channels
        self.bias1a, self.bias1b, self.bias2a, self.bias2b = (_scalar(0.0) for _ in range(4))
        self.bias3a, self.bias3b, self.multiplier = _scalar(0.0), _scalar(0.0), _scalar(1.0)
        self.conv0 = Conv2d(shape.in_channels, width, 1)
        self.conv1 = Conv2d(width, width, 3, shape.stride, options.padding)
        self.conv2 = Conv2d(width, shape.out_channels, 1)
        self.stochastic_depth = StochasticDepth(shape.drop_rate, options.stochastic_depth_rescale)
        self.conv_shortcut = None
        if shape.has_projection:
            self.conv_shortcut = Conv2d(shape.in_channels, shape.out_channels, 1, shape.stride)
            nn.init.normal_(self.conv_shortcut.weight, std=(2.0 / shape.out_channels) ** 0.5)
        # L^(-1 / (2 m - 2)) with m = 3 convolutions; the output width is used as fan-in (code).
        shrink = sum(options.blocks) ** -0.25
        nn.init.normal_(self.conv0.weight, std=shrink * (2.0 / width) ** 0.5)
        nn.init.normal_(self.conv1.weight, std=shrink * (2.0 / (9 * width)) ** 0.5)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        out = x + self.bias1a
        shortcut = out if self.conv_shortcut is None else self.conv_shortcut(out)
        return self.activation(shortcut + self.stochastic_depth(self.residual_branch(out)))

    def describe(self, stage: int, transition: bool) -> BlockDescription:
        """Describes a branch of 0, and a shortcut whose weights are scaled by the output width."""
        window = Window(1, self.conv1.stride[0])
        shortcut = None
        if self.conv_shortcut is not None:
            channels = self.conv_shortcut.in_channels, self.conv_shortcut.out_channels
            shortcut = Convolution(2.0 * channels[0] / channels[1], window=window)
        return BlockDescription(stage, transition, (Convolution(0.0, window=window),), shortcut)

    def residual_branch(self, out: Tensor) -> Tensor:
        """The branch of `out`, the block input plus bias1a; includes the multiplier and the last bias."""
        out = self.activation(self.conv0(out) + self.bias1b)
        out = self.activation(self.conv1(out + self.bias2a) + self.bias2b)
        return self.conv2(out + self.bias3a) * self.multiplier + self.bias3b  # type: ignore[no-any-return]


def _scalar(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value))
