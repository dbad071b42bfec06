"""Fully connected networks, plain and residual, each with BatchNorm, Scaled Weight Standardization, or neither.

A layer is a 1x1 convolution on maps of one pixel, so weights, norms and signal propagation are those of the other
families. Parts: initial_conv (of the image as one pixel), stages (one), linear. Activations are [N, width, 1, 1].
"""

import math

import torch
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.convolutions import Conv2d, ScaledWSConv2d, init_lecun_normal
from nfrepro.models.fully_connected_options import FullyConnectedOptions
from nfrepro.models.network import Network
from nfrepro.signal import DeclaredBlock, expected_variance


class FullyConnected(Network):
    """First layer, `depth` layers or blocks, linear classifier; images are [N, in_channels, pixels, pixels]."""

    def __init__(self, options: FullyConnectedOptions, num_classes: int, in_channels: int) -> None:
        super().__init__(0.0, [options.width], [options.pixels])
        self.image_shape = (in_channels, options.pixels, options.pixels)
        # No nonlinearity comes before it, so weights of variance 1 / fan-in preserve the variance.
        self.initial_conv = _weights(options, math.prod(self.image_shape), init_scale=1.0)
        block = ResidualLayer if options.connection == "residual" else Layer
        (scales,) = expected_variance([options.depth], options.alpha)
        self.stages.append(nn.Sequential(*[block(options, scale.beta) for scale in scales]))
        self.add_classifier(options.width, num_classes, std=options.width**-0.5)

    def forward_stem(self, x: Tensor) -> Tensor:
        """The first layer. Raises `ValueError` for images of another shape."""
        if x.shape[1:] != self.image_shape:
            channels, height, width = self.image_shape
            raise InputError(f"images must be [N, {channels}, {height}, {width}], got {list(x.shape)}")
        return self.stem_output(x.flatten(1)[:, :, None, None])

    def forward_head(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Layer(nn.Module):
    """W g(norm(x)), a layer of a plain network; with Scaled Weight Standardization, W gamma g(x)."""

    def __init__(self, options: FullyConnectedOptions, beta: float) -> None:
        super().__init__()
        activation = ACTIVATIONS[options.activation]
        self.norm = nn.BatchNorm2d(options.width) if options.normalization == "batch_norm" else nn.Identity()
        self.activation = activation.function
        standardized = options.normalization == "scaled_ws"
        self.conv = _weights(options, options.width, init_scale=1.0 if standardized else activation.he_scale)
        gamma = activation.gamma("exact") if standardized else 1.0
        # Without skip connections, no variance accumulates.
        self.input_scale = gamma / beta if standardized and options.connection == "residual" else gamma

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, width, 1, 1] to the same shape."""
        return self.conv(self.activation(self.norm(x)), input_scale=self.input_scale)  # type: ignore[no-any-return]


class ResidualLayer(Layer, DeclaredBlock):
    """x + alpha f(x), a block of a residual network; with Scaled Weight Standardization, x + alpha f(x / beta).

    As in the other families, the division by beta comes after the activation.
    """

    def __init__(self, options: FullyConnectedOptions, beta: float) -> None:
        super().__init__(options, beta)
        self.alpha = options.alpha

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, width, 1, 1] to the same shape."""
        # x + alpha f(x / beta): gamma / beta is in f's weights.
        return torch.add(x, self.residual_branch(x), alpha=self.alpha)

    def residual_branch(self, x: Tensor) -> Tensor:
        """f(x / beta)."""
        return super().forward(x)


def _weights(options: FullyConnectedOptions, fan_in: int, init_scale: float) -> Conv2d:
    """The weights of one layer. BatchNorm cancels biases, so there are none with it."""
    if options.normalization == "scaled_ws":
        return ScaledWSConv2d(fan_in, options.width, 1)
    conv = Conv2d(fan_in, options.width, 1, bias=options.normalization == "none")
    init_lecun_normal(conv.weight, init_scale)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
