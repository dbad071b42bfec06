"""NF-ResNet with all its switches (paper section 4; code: nf_resnet.py)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.convolutions import Conv2d, ScaledWSConv2d, Standardization, init_lecun_normal
from nfrepro.models.options import NFResNetOptions
from nfrepro.models.residual import NormalizerFreeBlock, SqueezeExcite
from nfrepro.models.resnet import BlockShape, ResNet, block_shapes, stem_channels
from nfrepro.signal import expected_variance

SQUEEZE_EXCITE_RATIO = 0.25  # hidden width over the block's (code: nf_resnet.py)


class NFResNet(ResNet):
    """x + alpha * f(x / beta), blocks that keep the variance of their input in f."""

    def __init__(self, options: NFResNetOptions, num_classes: int, in_channels: int) -> None:
        super().__init__(options)
        self.activation = ACTIVATIONS[options.activation].function
        self.gamma_after_activation, self.gamma_in_weight = gammas(options)
        channels = stem_channels(options)
        self.initial_conv = convolution(
            options, in_channels, channels, self.stem_shape.kernel_size, self.stem_shape.stride
        )
        ledger = expected_variance(options.blocks, options.alpha, reset=options.beta != "no_reset")
        for shapes, scales in zip(block_shapes(options), ledger, strict=True):
            betas = [1.0 if options.beta == "off" else scale.beta for scale in scales]
            blocks = [NFBlock(options, shape, beta) for shape, beta in zip(shapes, betas, strict=True)]
            self.stages.append(nn.Sequential(*blocks))
        self.add_classifier(shapes[-1].out_channels, num_classes, std=0.01)  # code: nf_resnet.py

    def convolve_stem(self, x: Tensor) -> Tensor:
        return self.initial_conv(x, input_scale=self.gamma_in_weight)  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor) -> Tensor:
        # gamma is a constant, so that scaling the pooled vector equals scaling the activation.
        return self.activation(x).mean((2, 3)) * self.gamma_after_activation


class NFBlock(NormalizerFreeBlock):
    """x + alpha * skip_gain * f(x / beta), f = (activation, 1x1, activation, 3x3, activation, 1x1).

    gamma and, by default, beta act on the activated signal, as in the authors' code: for ReLU-like activations that
    equals f(x / beta); for others, such as SiLU, it does not (`beta_at`). They are constants, so they act through the
    weights that the signal meets next. In a transition block the shortcut takes the activated, scaled signal too: this
    resets the variance to 1 there.
    """

    def __init__(self, options: NFResNetOptions, shape: BlockShape, beta: float) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[options.activation].function
        self.overwriting_activation = ACTIVATIONS[options.activation].overwriting  # of what a convolution made
        self.gamma = gammas(options)[0] * gammas(options)[1]  # once for each activation, wherever it acts
        self.set_beta(beta, options.beta_at)
        self.alpha = options.alpha
        width = shape.bottleneck
        self.conv0 = convolution(options, shape.in_channels, width, 1)
        self.conv1 = convolution(options, width, width, 3, shape.stride)
        self.conv2 = convolution(options, width, shape.out_channels, 1)
        self.squeeze_excite = squeeze_excite(options, shape)
        self.squeezes_in_the_middle = options.squeeze_excite == "middle"
        self.stochastic_depth = shape.stochastic_depth(options)
        self.skip_gain = (
            None if options.skipinit_gain is None else nn.Parameter(torch.tensor(float(options.skipinit_gain)))
        )
        self.shortcut_sees_activated = options.shortcut_input == "activated"
        self.shortcut_pools = options.shortcut == "average_pool" and shape.stride > 1
        self.conv_shortcut = None
        if shape.has_projection:
            stride = 1 if self.shortcut_pools else shape.stride
            self.conv_shortcut = convolution(options, shape.in_channels, shape.out_channels, 1, stride)

    def residual_branch(self, out: Tensor, scale: float, branch_scale: Tensor | float) -> Tensor:
        """`branch_scale` times the branch of the activated block input `out`, which `scale` brings to unit variance."""
        out = self.conv0(out, input_scale=scale)
        out = self.conv1(self.overwriting_activation(out), input_scale=self.gamma)
        if self.squeeze_excite is not None and self.squeezes_in_the_middle:
            out = self.squeeze_excite(out)
        out = self.overwriting_activation(out)
        if self.squeeze_excite is None or self.squeezes_in_the_middle:
            return self.conv2(out, input_scale=self.gamma, output_scale=branch_scale)  # type: ignore[no-any-return]
        # The gates are no linear function of what they see: only behind them may the branch be scaled.
        out = self.conv2(out, input_scale=self.gamma)
        return self.squeeze_excite(out, output_scale=branch_scale)  # type: ignore[no-any-return]

    def shortcut(self, x: Tensor, out: Tensor) -> Tensor:
        """The skip path of the block input `x`, activated `out`."""
        if self.conv_shortcut is None:
            return x
        source, scale = (out, self.gamma / self.beta) if self.shortcut_sees_activated else (x, 1.0)
        if self.shortcut_pools:
            source = functional.avg_pool2d(source, 2, ceil_mode=True, count_include_pad=False)
        return self.conv_shortcut(source, input_scale=scale)  # type: ignore[no-any-return]


def squeeze_excite(options: NFResNetOptions, shape: BlockShape) -> SqueezeExcite | None:
    """The gates of a block, where it has any."""
    if options.squeeze_excite == "none":
        return None
    channels = shape.out_channels if options.squeeze_excite == "end" else shape.bottleneck
    hidden = max(1, int(shape.out_channels * SQUEEZE_EXCITE_RATIO))
    return SqueezeExcite(channels, hidden, options.squeeze_excite_gain, options.squeeze_excite_init)


def gammas(options: NFResNetOptions) -> tuple[float, float]:
    """gamma after the last activation, and in the weight of the stem; one of them is 1. Without scaled WS both are."""
    if options.convolution != "scaled_ws":
        return 1.0, 1.0
    gamma = ACTIVATIONS[options.activation].gamma(options.gamma)
    return (gamma, 1.0) if options.gamma_at == "activation" else (1.0, gamma)


def convolution(
    options: NFResNetOptions, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
) -> Conv2d:
    """The kind of convolution that `options.convolution` names; all have a bias."""
    if options.convolution == "he":
        plain = Conv2d(in_channels, out_channels, kernel_size, stride, options.padding, bias=True)
        init_lecun_normal(plain.weight, scale=ACTIVATIONS[options.activation].he_scale)
        assert plain.bias is not None
        nn.init.zeros_(plain.bias)
        return plain
    how = Standardization(options.convolution == "scaled_ws", options.ws_epsilon, options.ws_variance)
    return ScaledWSConv2d(in_channels, out_channels, kernel_size, stride, options.padding, standardization=how)
