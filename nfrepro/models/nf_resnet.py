"""NF-ResNet with all its switches (paper section 4; code: nf_resnet.py)."""

from dataclasses import replace

from torch import nn

from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.blocks import BlockShape, NormalizerFree, NormalizerFreeBlock, SqueezeExcite, standardization
from nfrepro.models.convolutions import Conv2d, ScaledWSConv2d, init_lecun_normal
from nfrepro.models.options import NFResNetOptions
from nfrepro.models.resnet import ResNet, block_shapes, stem_sizes
from nfrepro.signal import NetworkDescription, expected_variance

SQUEEZE_EXCITE_RATIO = 0.25  # hidden width over the block's (code: nf_resnet.py)


class NFResNet(NormalizerFree, ResNet):
    """Blocks x + alpha * f(x / beta), in which f preserves the variance of its input."""

    unfed = ("initial_conv",)

    def __init__(self, options: NFResNetOptions, num_classes: int, in_channels: int) -> None:
        super().__init__(options)
        self.set_activation(options.activation, gammas(options))
        self.initial_conv = convolution(options, in_channels, *stem_sizes(options))
        ledger = expected_variance(options.blocks, options.alpha, reset=options.beta != "no_reset")
        for shapes, scales in zip(block_shapes(options), ledger, strict=True):
            betas = [1.0 if options.beta == "off" else scale.beta for scale in scales]
            blocks = [NFBlock(options, shape, beta) for shape, beta in zip(shapes, betas, strict=True)]
            self.stages.append(nn.Sequential(*blocks))
        self.add_classifier(shapes[-1].out_channels, num_classes, std=0.01)  # code: nf_resnet.py
        self.shortcut_input = options.shortcut_input

    def describe(self) -> NetworkDescription:
        return replace(super().describe(), shortcut_input=self.shortcut_input)


class NFBlock(NormalizerFreeBlock):
    """f = (activation, 1x1, activation, 3x3, activation, 1x1), optionally with squeeze-excite."""

    def __init__(self, options: NFResNetOptions, shape: BlockShape, beta: float) -> None:
        at_activation, in_weight = gammas(options)
        super().__init__(options, shape, beta, gamma=at_activation * in_weight)
        width = shape.inner_channels
        self.conv0 = convolution(options, shape.in_channels, width, 1)
        self.conv1 = convolution(options, width, width, 3, shape.stride)
        self.conv2 = convolution(options, width, shape.out_channels, 1)
        self.squeeze_excite = squeeze_excite(options, shape)
        self.ends_in_squeeze_excite = options.squeeze_excite == "end"
        self.shortcut_sees_activated = options.shortcut_input == "activated"
        self.shortcut_pools = options.shortcut == "average_pool" and shape.stride > 1
        self.conv_shortcut = None
        if shape.has_projection:
            stride = 1 if self.shortcut_pools else shape.stride
            self.conv_shortcut = convolution(options, shape.in_channels, shape.out_channels, 1, stride)


def squeeze_excite(options: NFResNetOptions, shape: BlockShape) -> SqueezeExcite | None:
    """The gates of a block, if it has any."""
    if options.squeeze_excite == "none":
        return None
    channels = shape.out_channels if options.squeeze_excite == "end" else shape.inner_channels
    hidden = max(1, int(shape.out_channels * SQUEEZE_EXCITE_RATIO))
    return SqueezeExcite(channels, hidden, options.squeeze_excite_gain, options.squeeze_excite_init)


def gammas(options: NFResNetOptions) -> tuple[float, float]:
    """gamma after the last activation, and gamma in the stem's weight; one of them is 1, or both without scaled WS."""
    if options.convolution != "scaled_ws":
        return 1.0, 1.0
    return ACTIVATIONS[options.activation].gammas(options.gamma, options.gamma_at)


def convolution(
    options: NFResNetOptions, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
) -> Conv2d:
    """The kind of convolution that `options.convolution` names; all have a bias."""
    if options.convolution == "he":
        plain = Conv2d(in_channels, out_channels, kernel_size, stride, options.padding, bias=True)
        plain.initial_scale = ACTIVATIONS[options.activation].he_scale
        init_lecun_normal(plain.weight, plain.initial_scale)
        assert plain.bias is not None
        nn.init.zeros_(plain.bias)
        return plain
    how = replace(standardization(options), scaled=options.convolution == "scaled_ws")
    return ScaledWSConv2d(in_channels, out_channels, kernel_size, stride, options.padding, standardization=how)
