"""Convolutions: plain, and with Scaled Weight Standardization (paper section 4.2; code: base.py, ScaledWSConv2D)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nfrepro.errors import InputError
from nfrepro.models import triton_support
from nfrepro.models.bias_kernel import add_bias
from nfrepro.signal import prediction
from nfrepro.signal.moment_maps import Window

Padding = Literal["same", "torch"]

# Rule that keeps the standard deviation of a filter away from zero.
# floor: max(variance * fan_in, 1e-4) (code: base.py); sum: variance * fan_in + 1e-4 (the paper's listing);
# timm: variance + 1e-5, which shrinks wide filters noticeably.
EpsilonRule = Literal["floor", "sum", "timm"]
FLOOR = 1e-4
# population: divides by N (code: jnp.var); sample: by N - 1 (the listing: torch.var).
VarianceEstimator = Literal["population", "sample"]


@dataclass(frozen=True)
class Standardization:
    """How weights are standardized: `scaled` with the paper's 1 / sqrt(N), else plain WS (arXiv 1903.10520)."""

    scaled: bool = True
    epsilon: EpsilonRule = "floor"
    variance: VarianceEstimator = "population"


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after by XLA's SAME rule: the output size is ceil(size / stride), an odd pixel goes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad_to_same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """`x` of shape [N, C, H, W] padded by `same_padding` in both directions."""
    top, bottom = same_padding(x.shape[2], kernel, stride)
    left, right = same_padding(x.shape[3], kernel, stride)
    return F.pad(x, (left, right, top, bottom), value=value) if top or bottom or left or right else x


class Conv2d(nn.Conv2d):
    """A square convolution with either padding rule. With stride 1 and an odd kernel, the two rules coincide."""

    standardization: Standardization | None = None

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
            raise InputError(f"{in_channels} and {out_channels} channels cannot be divided into {groups} groups")
        self.pads_by_size = padding == "same" and stride > 1 and kernel_size > 1
        self.initial_scale = 1.0  # fan-in times the variance of the initial weights
        symmetric = 0 if self.pads_by_size else kernel_size // 2
        super().__init__(in_channels, out_channels, kernel_size, stride, symmetric, groups=groups, bias=bias)

    def effective_weight(self, scale: Tensor | float = 1.0) -> Tensor:
        """`scale` times the weight used in the convolution, [O, I, K, K], in the precision of the stored weight."""
        return self.weight if isinstance(scale, float) and scale == 1.0 else self.weight * scale

    def forward(self, x: Tensor, input_scale: float = 1.0, output_scale: Tensor | float = 1.0) -> Tensor:
        """`output_scale * conv(input_scale * x)`, with both scales applied to the small weight, not to activations."""
        weight, bias = self.effective_weight(input_scale * output_scale), self.bias
        if bias is not None and not (isinstance(output_scale, float) and output_scale == 1.0):
            bias = bias * output_scale
        return self.convolve(x, weight, bias)

    def describe(self, gain: float = 1.0) -> prediction.Convolution:
        """Describes the convolution, with weights times `gain`, for `nfrepro.signal.predict`."""
        standardization, fan_in = self.standardization, self.weight[0].numel()
        scale = self.initial_scale if standardization is None else standardized_scale(standardization, fan_in)
        window = Window(self.kernel_size[0], self.stride[0], "same" if self.pads_by_size else "torch")
        return prediction.Convolution(gain**2 * scale, standardization is not None, window)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Pads `x` by this convolution's rule, and convolves it with `weight` and `bias`."""
        if self.pads_by_size:
            x = pad_to_same(x, self.kernel_size[0], self.stride[0])
        return F.conv2d(x, weight, bias, self.stride, self.padding, groups=self.groups)


class ScaledWSConv2d(Conv2d):
    """W_hat_ij = (W_ij - mu_i) / (sigma_i sqrt(N)), times a learnable gain per output channel, plus a bias.

    `mu_i` and `sigma_i` are the mean and the (population) standard deviation over the fan-in N of output unit i. The
    paper's gamma is not included: as in the authors' code, the block applies it to the activation that feeds the
    convolution, through `input_scale`.
    """

    standardization: Standardization

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
        # Weight and bias with all scales of the network applied, set only while `EffectiveWeights` provides them.
        self.effective: tuple[Tensor, Tensor] | None = None
        init_lecun_normal(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, input_scale: float = 1.0, output_scale: Tensor | float = 1.0) -> Tensor:
        if self.effective is None:
            return super().forward(x, input_scale, output_scale)
        weight, bias = self.effective
        if bias.dtype != torch.float32 or not triton_support.runs_on(x.device):
            return self.convolve(x, weight, bias)
        return add_bias(self.convolve(x, weight, None), bias)

    def effective_weight(self, scale: Tensor | float = 1.0) -> Tensor:
        return standardize(self.weight, self.gain * scale, self.standardization)


@dataclass(frozen=True)
class ScaledConvolution:
    """output_scale * skip_gain * conv(input_scale * x): one convolution and the scales its network gives it."""

    owner: nn.Module
    name: str  # the attribute of `owner` that holds the convolution
    input_scale: float  # gamma, or gamma / beta
    output_scale: float = 1.0  # alpha
    skip_gain: nn.Parameter | None = None

    @property
    def convolution(self) -> Conv2d:
        found: Conv2d = getattr(self.owner, self.name)
        return found

    def effective(self) -> tuple[Tensor, Tensor]:
        """Weight [O, I, K, K] and bias [O] with all scales applied."""
        scale = self.output_scale if self.skip_gain is None else self.output_scale * self.skip_gain
        assert self.convolution.bias is not None
        return self.convolution.effective_weight(self.input_scale * scale), self.convolution.bias * scale


class WSConv2d(Conv2d):
    """Weight Standardization from before this paper: no 1 / sqrt(N), no gain, no bias (arXiv 1903.10520)."""

    standardization: Standardization = Standardization(scaled=False)

    def effective_weight(self, scale: Tensor | float = 1.0) -> Tensor:
        gain = self.weight.new_ones(self.out_channels) * scale
        return standardize(self.weight, gain, self.standardization)


def standardized_scale(how: Standardization, fan_in: int) -> float:
    """Fan-in times the mean square of a standardized weight at initialisation: 1 if scaled, up to epsilon."""
    # Weights start with variance 1 / fan_in; subtracting their mean removes a fraction 1 / fan_in of it.
    population = (fan_in - 1) / fan_in**2
    estimate = population if how.variance == "population" else 1.0 / fan_in
    inverse_square = {
        "floor": 1.0 / max(estimate * fan_in, FLOOR),
        "sum": 1.0 / (estimate * fan_in + 1e-4),
        "timm": 1.0 / ((estimate + 1e-5) * fan_in),
    }[how.epsilon]
    return fan_in * population * inverse_square * (1 if how.scaled else fan_in)


def standardize(weight: Tensor, gain: Tensor, how: Standardization) -> Tensor:
    """`weight` [O, I, K, K] with mean 0 and, if `scaled`, variance 1 / N in each output unit; times `gain` [O]."""
    # In channels-last layout, this order of the fan-in is the memory order, so nothing is copied.
    flat = weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
    out_channels, in_channels, height, width = weight.shape
    on_gpu = flat.is_cuda and flat.dtype == torch.float32 and how.variance == "population"
    standardized: Tensor = (_StandardizeAsBatchNorm if on_gpu else _Standardize).apply(flat, gain, how)
    return standardized.view(out_channels, height, width, in_channels).permute(0, 3, 1, 2)


class _Standardize(torch.autograd.Function):
    """(W - mu) r k by row, with r = 1 / (sigma sqrt(N)) by the epsilon rule; forward and backward in few passes.

    With S = sum_j G_j (W_j - mu) and N' = N or N - 1: dk = r S and
    dW = k r (G - mean G) + k S (dr / d var) (2 / N') (W - mu), which is a G + b W + c with a, b, c by row.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, gain: Tensor, how: Standardization) -> Tensor:
        fan_in = weight.shape[1]
        degrees = fan_in if how.variance == "population" else fan_in - 1
        mean = weight.mean(1)
        centred = weight - mean[:, None]
        # On a CPU, the norm is thirty times as fast as torch.var_mean, and accurate enough on centred weights.
        variance = torch.linalg.vector_norm(centred, dim=1).square() / degrees
        inverse = _INVERSE_DEVIATION[how.epsilon](variance, fan_in)
        if not how.scaled:
            inverse = inverse * fan_in**0.5
        ctx.save_for_backward(weight, gain, mean, variance, inverse)
        ctx.how, ctx.degrees = how, degrees
        return centred.mul_((inverse * gain)[:, None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, gain, mean, variance, inverse = ctx.saved_tensors
        floored = variance * weight.shape[1] <= FLOOR if ctx.how.epsilon == "floor" else None
        if _is_batch_norm(floored, ctx.how.variance):
            # `inverse` is 1 / (sigma sqrt(N)) if scaled; BatchNorm needs 1 / sigma.
            root = weight.shape[1] ** 0.5 if ctx.how.scaled else 1.0
            of_weight, of_gain = _batch_norm_backward(gradient, weight, gain / root, mean, inverse * root)
            return of_weight, of_gain / root, None
        fan_in = weight.shape[1]
        total = gradient.sum(1)
        covariance = torch.linalg.vecdot(gradient, weight) - mean * total
        # r = (N var + epsilon)^(-1/2), times sqrt(N) without `scaled`; on the floor it is constant.
        slope = -0.5 * inverse**3 * (fan_in if ctx.how.scaled else 1.0)
        if floored is not None:
            slope = torch.where(floored, 0.0, slope)
        of_gradient = gain * inverse
        of_weight = gain * covariance * slope * (2.0 / ctx.degrees)
        constant = of_gradient * total / fan_in + of_weight * mean
        out = torch.addcmul(-constant[:, None], gradient, of_gradient[:, None])
        return out.addcmul_(weight, of_weight[:, None]), inverse * covariance, None


class _StandardizeAsBatchNorm(torch.autograd.Function):
    """`_Standardize` by parts of torch's BatchNorm for GPUs: 10 kernels instead of 35, without synchronization.

    BatchNorm has 1 / sigma in place of r = 1 / (sigma sqrt(N)). On the floor, r is a constant, so the gradient through
    the variance is 0.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, gain: Tensor, how: Standardization) -> Tensor:
        fan_in = weight.shape[1]
        root = fan_in**0.5 if how.scaled else 1.0
        epsilon = {"floor": 1e-30, "sum": FLOOR / fan_in, "timm": 1e-5}[how.epsilon]
        mean, inverse = torch.batch_norm_stats(weight[None], epsilon)
        held = inverse.clamp_max((fan_in / FLOOR) ** 0.5) if how.epsilon == "floor" else inverse
        scale = gain / root
        ctx.save_for_backward(weight, scale, mean, inverse, held)
        ctx.root = root
        out: Tensor = torch.batch_norm_elemt(weight[None], scale, None, mean, held, 0.0)[0]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, scale, mean, inverse, held = ctx.saved_tensors
        gradient, weight = gradient.contiguous()[None], weight[None]
        count = torch.full((1,), weight.shape[2], dtype=torch.int32, device=weight.device)
        sums, products, of_scale, _ = torch.batch_norm_backward_reduce(
            gradient, weight, mean, held, scale, True, True, False
        )
        products = torch.where(inverse > held, 0.0, products)
        of_weight = torch.batch_norm_backward_elemt(gradient, weight, mean, held, scale, sums, products, count)[0]
        return of_weight, of_scale / ctx.root, None


def _is_batch_norm(floored: Tensor | None, variance: VarianceEstimator) -> bool:
    """Whether the gradient is known to be that of a BatchNorm over each filter.

    Filters are checked for the floor only where that is cheap: on a CPU, outside of a compiler.
    """
    if variance == "sample":
        return False
    if floored is None:
        return True
    return not torch.compiler.is_compiling() and floored.device.type == "cpu" and not bool(floored.any())


def _batch_norm_backward(
    gradient: Tensor, weight: Tensor, gain: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of (W - mu) inverse gain, by row, with respect to W and gain.

    torch's fused pass is three times as fast as the sums written out.
    """
    of_weight, of_gain, _ = torch.ops.aten.native_batch_norm_backward(
        gradient[None], weight[None], gain, None, None, mean, inverse, True, 0.0, [True, True, False]
    )
    return of_weight[0], of_gain


# 1 / (sigma sqrt(N)) by each epsilon rule, from the filters' variances and their fan-in.
_INVERSE_DEVIATION: dict[EpsilonRule, Callable[[Tensor, int], Tensor]] = {
    "floor": lambda variance, fan_in: torch.rsqrt(torch.clamp(variance * fan_in, min=FLOOR)),
    "sum": lambda variance, fan_in: torch.rsqrt(variance * fan_in + 1e-4),
    "timm": lambda variance, fan_in: torch.rsqrt((variance + 1e-5) * fan_in),
}


def init_lecun_normal(weight: Tensor, scale: float = 1.0) -> None:
    """Fills `weight` in place from a normal distribution of variance scale / fan_in."""
    nn.init.normal_(weight, std=(scale / weight[0].numel()) ** 0.5)


# Standard deviation and variance of a unit normal truncated at two standard deviations.
CUT_DEVIATION = 0.87962566103423978
CUT_VARIANCE = CUT_DEVIATION**2


def init_truncated_normal(weight: Tensor, scale: float = 1.0) -> None:
    """Fills `weight` in place from a normal truncated at two deviations, of variance scale / fan_in after truncation.

    This is Haiku's `VarianceScaling(scale, "fan_in", "truncated_normal")`.
    """
    _init_cut_normal(weight, (scale / weight[0].numel()) ** 0.5 / CUT_DEVIATION)


def init_haiku_default(weight: Tensor) -> None:
    """Fills `weight` in place as Haiku does by default, with variance 0.774 / fan_in.

    Haiku's `Conv2D` and `Linear` truncate a normal of deviation 1 / sqrt(fan_in) at two deviations, and do not correct
    for the truncation.
    """
    _init_cut_normal(weight, weight[0].numel() ** -0.5)


def _init_cut_normal(weight: Tensor, std: float) -> None:
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
