"""Convolutions: plain, and with Scaled Weight Standardization (paper section 4.2; code: base.py, ScaledWSConv2D)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Padding = Literal["same", "torch"]

# Floor of `variance * fan_in` (code: base.py). It acts only on filters that have all but vanished.
WS_EPSILON = 1e-4


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
    ) -> None:
        self.pads_by_size = padding == "same" and stride > 1 and kernel_size > 1
        symmetric = 0 if self.pads_by_size else kernel_size // 2
        super().__init__(in_channels, out_channels, kernel_size, stride, symmetric, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.weight, self.bias)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.pads_by_size:
            x = pad_to_same(x, self.kernel_size[0], self.stride[0])
        return F.conv2d(x, weight, bias, self.stride, self.padding)


class ScaledWSConv2d(Conv2d):
    """W_hat_ij = (W_ij - mu_i) / (sigma_i sqrt(N)), times a learnable gain per output channel, plus a bias.

    `mu_i` and `sigma_i` are the mean and the (population) standard deviation over the fan-in N of output unit i. The
    paper's gamma is not in here: like the authors' code, the block applies it to the activation that feeds the
    convolution, through `input_scale`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: Padding = "same"
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=True)
        self.gain = nn.Parameter(torch.ones(out_channels))
        init_lecun_normal(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def standardized_weight(self) -> Tensor:
        """The standardized weight times the gain, [O, I, K, K], in the precision of the stored weight."""
        fan_in = self.weight[0].numel()
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), correction=0, keepdim=True)
        scale = torch.rsqrt(torch.clamp(variance * fan_in, min=WS_EPSILON))
        return (self.weight - mean) * (scale * self.gain.view(-1, 1, 1, 1))

    def forward(self, x: Tensor, input_scale: float = 1.0, output_scale: Tensor | float = 1.0) -> Tensor:
        """`output_scale * conv(input_scale * x)`, with both scales in the small weight, not in the large activation."""
        weight = self.standardized_weight() * (input_scale * output_scale)
        assert self.bias is not None
        return self.convolve(x, weight, self.bias * output_scale)


def init_lecun_normal(weight: Tensor, scale: float = 1.0) -> None:
    """Normal with variance scale / fan_in, in place."""
    nn.init.normal_(weight, std=(scale / weight[0].numel()) ** 0.5)


def init_truncated_normal(weight: Tensor, scale: float = 1.0) -> None:
    """Normal cut at two standard deviations, with variance scale / fan_in after the cut, in place (Haiku's default)."""
    std = (scale / weight[0].numel()) ** 0.5 / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
