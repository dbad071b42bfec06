"""Convolutions: plain, and with Scaled Weight Standardization (paper section 4.2; code: base.py, ScaledWSConv2D)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfrepro.errors import InputError

Padding = Literal["same", "torch"]

# What keeps the standard deviation of a filter away from zero.
# floor: max(variance * fan_in, 1e-4) (code: base.py); sum: variance * fan_in + 1e-4 (the paper's listing);
# timm: variance + 1e-5, which shrinks wide filters visibly.
EpsilonRule = Literal["floor", "sum", "timm"]
# population: divides by N (code: jnp.var); sample: by N - 1 (the listing: torch.var).
VarianceEstimator = Literal["population", "sample"]


@dataclass(frozen=True)
class Standardization:
    """How weights are standardized. `scaled` has the paper's 1 / sqrt(N); without it is plain WS (arXiv 1903.10520)."""

    scaled: bool = True
    epsilon: EpsilonRule = "floor"
    variance: VarianceEstimator = "population"


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels before and after, by XLA's SAME rule: output size is ceil(size / stride), the odd pixel goes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad_to_same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """`x` of shape [N, C, H, W] padded by `same_padding` in both directions."""
    top, bottom = same_padding(x.shape[2], kernel, stride)
    left, right = same_padding(x.shape[3], kernel, stride)
    return F.pad(x, (left, right, top, bottom), value=value) if top or bottom or left or right else x


class Conv2d(nn.Conv2d):
    """A square convolution with either padding rule. With stride 1 and an odd kernel the two rules are one."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: Padding = "same",
        bias: bool = False,
        groups: int = 1,
    ) -> None:
        if in_channels % groups or out_channels % groups:
            raise InputError(f"{in_channels} and {out_channels} channels do not divide into {groups} groups")
        self.pads_by_size = padding == "same" and stride > 1 and kernel_size > 1
        symmetric = 0 if self.pads_by_size else kernel_size // 2
        super().__init__(in_channels, out_channels, kernel_size, stride, symmetric, groups=groups, bias=bias)

    def effective_weight(self) -> Tensor:
        """The weight that convolves, [O, I, K, K], in the precision of the stored one."""
        return self.weight

    def forward(self, x: Tensor, input_scale: float = 1.0, output_scale: Tensor | float = 1.0) -> Tensor:
        """`output_scale * conv(input_scale * x)`, with both scales in the small weight, not in the large activation."""
        weight, bias = self.effective_weight(), self.bias
        if not (isinstance(output_scale, float) and input_scale == output_scale == 1.0):
            weight = weight * (input_scale * output_scale)
            bias = None if bias is None else bias * output_scale
        if self.pads_by_size:
            x = pad_to_same(x, self.kernel_size[0], self.stride[0])
        return F.conv2d(x, weight, bias, self.stride, self.padding, groups=self.groups)


class ScaledWSConv2d(Conv2d):
    """W_hat_ij = (W_ij - mu_i) / (sigma_i sqrt(N)), times a learnable gain per output channel, plus a bias.

    `mu_i` and `sigma_i` are the mean and the (population) standard deviation over the fan-in N of output unit i. The
    paper's gamma is not in here: like the authors' code, the block applies it to the activation that feeds the
    convolution, through `input_scale`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: Padding = "same",
        groups: int = 1,
        standardization: Standardization = Standardization(),
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=True, groups=groups)
        self.standardization = standardization
        self.gain = nn.Parameter(torch.ones(out_channels))
        init_lecun_normal(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def effective_weight(self) -> Tensor:
        """The standardized weight times the gain."""
        return standardize(self.weight, self.standardization, self.gain)


class WSConv2d(Conv2d):
    """Weight Standardization as it was before this paper: no 1 / sqrt(N), no gain, no bias (arXiv 1903.10520)."""

    def effective_weight(self) -> Tensor:
        return standardize(self.weight, Standardization(scaled=False), None)


def standardize(weight: Tensor, how: Standardization, gain: Tensor | None) -> Tensor:
    """`weight` [O, I, K, K] with mean 0 and, `scaled`, variance 1 / N in each output unit; times `gain` [O]."""
    fan_in = weight[0].numel()
    correction = 0 if how.variance == "population" else 1
    variance, mean = torch.var_mean(weight, dim=(1, 2, 3), correction=correction, keepdim=True)
    scale = _INVERSE_DEVIATION[how.epsilon](variance, fan_in)
    if not how.scaled:
        scale = scale * fan_in**0.5
    return (weight - mean) * (scale if gain is None else scale * gain.view(-1, 1, 1, 1))


# 1 / (sigma sqrt(N)) by each epsilon rule, of the filters' variances and their fan-in.
_INVERSE_DEVIATION: dict[EpsilonRule, Callable[[Tensor, int], Tensor]] = {
    "floor": lambda variance, fan_in: torch.rsqrt(torch.clamp(variance * fan_in, min=1e-4)),
    "sum": lambda variance, fan_in: torch.rsqrt(variance * fan_in + 1e-4),
    "timm": lambda variance, fan_in: torch.rsqrt((variance + 1e-5) * fan_in),
}


def init_lecun_normal(weight: Tensor, scale: float = 1.0) -> None:
    """Normal with variance scale / fan_in, in place."""
    nn.init.normal_(weight, std=(scale / weight[0].numel()) ** 0.5)


def init_truncated_normal(weight: Tensor, scale: float = 1.0) -> None:
    """Normal cut at two standard deviations, with variance scale / fan_in after the cut, in place (Haiku's default)."""
    std = (scale / weight[0].numel()) ** 0.5 / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
