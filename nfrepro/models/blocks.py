"""Residual blocks: the paper's x + alpha f(x / beta), and the parts that blocks of all families share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.convolutions import (
    Conv2d,
    ScaledConvolution,
    Standardization,
    init_haiku_default,
    init_truncated_normal,
)
from nfrepro.models.nfnet_options import NFNetOptions
from nfrepro.models.options import NFResNetOptions
from nfrepro.models.regnet_options import NFRegNetOptions
from nfrepro.signal import DeclaredBlock, prediction


class SqueezeExcite(nn.Module):
    """Channel gates: x * gain * sigmoid(fc1(relu(fc0(mean(x))))).

    The sigmoid is about 1/2 at initialisation, so a gain of 2 preserves the variance (code: base.py, nf_regnet.py).
    `init` is `haiku` for the code's initial weights, or `lecun`, whose standard deviation is 1 / 0.88 times as large.
    """

    def __init__(self, channels: int, hidden: int, gain: float, init: Literal["lecun", "haiku"]) -> None:
        super().__init__()
        self.fc0 = nn.Linear(channels, hidden)
        self.fc1 = nn.Linear(hidden, channels)
        self.gain = gain
        for linear in (self.fc0, self.fc1):
            (init_haiku_default if init == "haiku" else init_truncated_normal)(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, output_scale: Tensor | float = 1.0) -> Tensor:
        """Maps [N, C, H, W] to the same shape, times `output_scale`, which is applied to the small gates."""
        gates = torch.sigmoid(self.fc1(torch.relu(self.fc0(x.mean((2, 3))))))
        return x * (self.gain * output_scale * gates)[:, :, None, None]


class StochasticDepth(nn.Module):
    """Drops the whole branch of each image with probability `rate` during training.

    The authors' code never rescales, so means differ between training and test (base.py); torchvision and timm divide
    by the keep probability.
    """

    def __init__(self, rate: float, rescale: bool) -> None:
        super().__init__()
        self.rate, self.rescale = rate, rescale

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to the same shape."""
        if not self.training or self.rate == 0.0:
            return x
        kept = torch.rand(len(x), device=x.device) >= self.rate
        scale = kept / (1.0 - self.rate) if self.rescale else kept
        return x * scale.to(x.dtype)[:, None, None, None]


def average_pool(x: Tensor) -> Tensor:
    """2x2 average pooling with stride 2, from [N, C, H, W] to [N, C, ceil(H / 2), ceil(W / 2)].

    At the end of an odd side, the mean is over existing pixels only, without padding, like Haiku's avg_pool with SAME.
    """
    return F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)


@dataclass(frozen=True)
class BlockShape:
    """Widths, stride and drop rate of one residual block."""

    in_channels: int
    inner_channels: int  # of the 3x3 convolutions
    out_channels: int
    stride: int
    drop_rate: float  # of stochastic depth: block i of L drops its branch with probability rate * i / L (code)
    groups: int = 1  # of the 3x3 convolutions
    hidden_channels: int = 0  # of squeeze-excite

    @property
    def has_projection(self) -> bool:
        """Whether this is a transition block: the first of its stage, which changes the width or the resolution."""
        return self.stride > 1 or self.in_channels != self.out_channels


class ResidualBlock(DeclaredBlock):
    """shortcut + branch_scale * branch, where the branch sees the activated, and perhaps normalized, input.

    A projection shortcut sees it too; an identity shortcut is the raw input. alpha and beta are 1 in families without
    them.
    """

    conv0: Conv2d
    middle: tuple[str, ...] = ("conv1",)  # the convolutions between the first and the last
    conv2: Conv2d
    conv_shortcut: Conv2d | None
    shortcut_pools = False
    stochastic_depth: nn.Module
    initial_skip_gain = 1.0  # initial value of SkipInit's scalar
    branch_scale: Tensor | float = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to [N, O, ceil(H / stride), ceil(W / stride)]."""
        out = self.activated(x)
        alpha_f = self.stochastic_depth(self.residual_branch(out, self.branch_scale))
        # x + alpha f(x / beta): gamma / beta is in the weights of f's first convolution, alpha in those of its last.
        return self.shortcut(x, out) + alpha_f  # type: ignore[no-any-return]

    def activated(self, x: Tensor) -> Tensor:
        """The block input `x` as the branch sees it."""
        raise NotImplementedError

    def shortcut(self, x: Tensor, out: Tensor) -> Tensor:
        """The skip path for the block input `x`, whose activation is `out`."""
        if self.conv_shortcut is None:
            return x
        return self.conv_shortcut(average_pool(out) if self.shortcut_pools else out)  # type: ignore[no-any-return]

    def residual_branch(self, out: Tensor, branch_scale: Tensor | float = 1.0) -> Tensor:
        """`branch_scale` times the branch of the activated block input `out`."""
        raise NotImplementedError

    def describe(self, stage: int, transition: bool) -> prediction.BlockDescription:
        """Describes the block for `nfrepro.signal.predict`. Stages count from 1; the first block is the transition."""
        branch = tuple(getattr(self, name).describe() for name in ("conv0", *self.middle, "conv2"))
        shortcut = None if self.conv_shortcut is None else self.conv_shortcut.describe()
        return prediction.BlockDescription(
            stage, transition, branch, shortcut, self.shortcut_pools, skip_gain=self.initial_skip_gain
        )


class NormalizerFreeBlock(ResidualBlock):
    """x + alpha * skip_gain * f(x / beta) (paper section 4).

    f has an activation before each of `conv0`, the convolutions `middle` and `conv2`; squeeze-excite, if any, comes
    before the last activation or at the end. gamma and, by default, beta act on the activated signal, as in the
    authors' code: for ReLU-like activations that equals f(x / beta); for others, such as SiLU, it does not (`beta_at`).
    Both are constants, so they are applied to the weights of the next convolution. The shortcut of a transition block
    takes the activated, scaled signal too, which resets the variance to 1 there; if it pools, the pool leaves 1/4 of
    the variance of independent pixels.
    """

    squeeze_excite: SqueezeExcite | None
    ends_in_squeeze_excite = False
    shortcut_sees_activated = True

    def __init__(
        self, options: NFResNetOptions | NFRegNetOptions | NFNetOptions, shape: BlockShape, beta: float, gamma: float
    ) -> None:
        super().__init__()
        activation = ACTIVATIONS[options.activation]
        self.activation: Callable[[Tensor], Tensor] = activation.function
        self.overwriting_activation = activation.overwriting  # for a convolution's output
        self.gamma = gamma  # applied once per activation, wherever it acts
        # `beta` divides the activated input, as in the authors' code, or the input itself, as in the paper's formula.
        self.beta, self.input_beta = (beta, 1.0) if options.beta_at == "activation" else (1.0, beta)
        self.alpha = options.alpha
        gain = options.skipinit_gain
        self.skip_gain = None if gain is None else nn.Parameter(torch.tensor(float(gain)))
        self.initial_skip_gain = 1.0 if gain is None else float(gain)
        self.stochastic_depth = StochasticDepth(shape.drop_rate, options.stochastic_depth_rescale)

    @property
    def branch_scale(self) -> Tensor | float:  # type: ignore[override]
        """alpha, times the SkipInit scalar if there is one."""
        return self.alpha if self.skip_gain is None else self.alpha * self.skip_gain

    def activated(self, x: Tensor) -> Tensor:
        """The activated block input, before gamma and before a `beta` that acts after the activation."""
        return self.activation(x if self.input_beta == 1.0 else x / self.input_beta)

    def shortcut(self, x: Tensor, out: Tensor) -> Tensor:
        if self.conv_shortcut is None:
            return x
        source, scale = (out, self.gamma / self.beta) if self.shortcut_sees_activated else (x, 1.0)
        source = average_pool(source) if self.shortcut_pools else source
        return self.conv_shortcut(source, input_scale=scale)  # type: ignore[no-any-return]

    def residual_branch(self, out: Tensor, branch_scale: Tensor | float = 1.0) -> Tensor:
        """`branch_scale` * f(x / beta) of the activated block input `out`."""
        out = self.conv0(out, input_scale=self.gamma / self.beta)
        for name in self.middle:
            out = getattr(self, name)(self.overwriting_activation(out), input_scale=self.gamma)
        if self.squeeze_excite is not None and not self.ends_in_squeeze_excite:
            out = self.squeeze_excite(out)
        out = self.overwriting_activation(out)
        if self.squeeze_excite is None or not self.ends_in_squeeze_excite:
            return self.conv2(out, input_scale=self.gamma, output_scale=branch_scale)  # type: ignore[no-any-return]
        # The gates are not linear in their input, so the branch may be scaled only after them.
        return self.squeeze_excite(self.conv2(out, input_scale=self.gamma), output_scale=branch_scale)  # type: ignore[no-any-return]

    def describe(self, stage: int, transition: bool) -> prediction.BlockDescription:
        gates = None
        if self.squeeze_excite is not None:
            after = len(self.middle) + self.ends_in_squeeze_excite
            gates = prediction.SqueezeExcite(after, self.squeeze_excite.gain)
        return replace(
            super().describe(stage, transition),
            alpha=self.alpha,
            beta=self.beta,
            input_beta=self.input_beta,
            squeeze_excite=gates,
        )

    def scaled_convolutions(self) -> Iterator[ScaledConvolution]:
        """The convolutions with the scales that the forward pass gives them."""
        entering = self.gamma / self.beta
        yield ScaledConvolution(self, "conv0", entering)
        for name in self.middle:
            yield ScaledConvolution(self, name, self.gamma)
        if self.ends_in_squeeze_excite:
            yield ScaledConvolution(self, "conv2", self.gamma)
        else:
            yield ScaledConvolution(self, "conv2", self.gamma, self.alpha, self.skip_gain)
        if self.conv_shortcut is not None:
            yield ScaledConvolution(self, "conv_shortcut", entering if self.shortcut_sees_activated else 1.0)

    def set_scales_to_one(self) -> None:
        """Sets the scales to 1 once the convolutions' weights include them; final gates absorb the branch's scale."""
        if self.squeeze_excite is not None and self.ends_in_squeeze_excite:
            self.squeeze_excite.gain *= float(self.branch_scale)
        self.gamma = self.beta = self.alpha = 1.0
        self.skip_gain = None


def standardization(options: NFResNetOptions | NFRegNetOptions | NFNetOptions) -> Standardization:
    """The standardization of all weights that `options` describe."""
    return Standardization(epsilon=options.ws_epsilon, variance=options.ws_variance)


class NormalizerFree(nn.Module):
    """Base of the normalizer-free networks: applies gamma before and after their blocks."""

    unfed: tuple[str, ...] = ("initial_conv", "final_conv")  # convolutions that no activation feeds
    fed: tuple[str, ...]  # the other convolutions outside of blocks
    initial_conv: Conv2d
    linear: nn.Linear

    def set_activation(self, name: str, gammas: tuple[float, float]) -> None:
        """Sets the activation, and gamma after the last one and in the weights of `unfed` convolutions; one is 1."""
        self.activation = ACTIVATIONS[name].function
        self.gamma_after_activation, self.gamma_in_weight = gammas
        self.gamma = self.gamma_after_activation * self.gamma_in_weight

    def convolve_stem(self, x: Tensor) -> Tensor:
        """The first convolution, then the stem's convolutions of activated signals."""
        out = self.initial_conv(x, input_scale=self.gamma_in_weight)
        for name in self.fed:
            out = getattr(self, name)(self.activation(out), input_scale=self.gamma)
        return out  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor) -> Tensor:
        """The layers between the last block and the pooled features."""
        if "final_conv" in self.unfed:
            x = self.final_conv(x, input_scale=self.gamma_in_weight)  # type: ignore[operator]
        # gamma is a constant, so scaling the pooled vector equals scaling the activation.
        return self.activation(x).mean((2, 3)) * self.gamma_after_activation

    def scaled_convolutions(self) -> list[ScaledConvolution]:
        """Every convolution, in the order of `modules()`, with the scales of the forward pass."""
        found = [ScaledConvolution(self, name, self.gamma_in_weight) for name in self.unfed]
        found += [ScaledConvolution(self, name, self.gamma) for name in self.fed]
        for module in self.modules():
            if isinstance(module, NormalizerFreeBlock):
                found += module.scaled_convolutions()
        order = {id(module): number for number, module in enumerate(self.modules())}
        return sorted(found, key=lambda scaled: order[id(scaled.convolution)])
