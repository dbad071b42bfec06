"""Triton kernels, one forward and one backward, for Scaled Weight Standardization of all filters of a network.

`convolutions._Standardize` does the same with PyTorch's operators, about 35 kernels per convolution; on a GPU, a small
network would spend more time on their launches than on computation.

All tensors are flat. Filter r has `fan_in[r]` weights from `start[r]` on, a gain, a bias, the constants
`weight_scale[r]` and `bias_scale[r]`, and, unless `skip_index[r]` is -1, the SkipInit scalar of that index:

    out = weight_scale skip gain (W - mu) / (sigma sqrt(N)),    out_bias = bias_scale skip bias
"""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from nfrepro.models.convolutions import FLOOR

# Weights per step of a kernel's loop; a 3x3 filter of 64 channels has 576.
BLOCK = 1024
EPSILON_RULES = ("floor", "sum", "timm")


if find_spec("triton") is not None:
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator]
    def _forward_kernel(  # type: ignore[no-untyped-def]
        weight,
        gain,
        bias,
        skip_gain,
        start,
        fan_in,
        weight_scale,
        bias_scale,
        skip_index,
        out,
        out_bias,
        out_mean,
        out_inverse,
        EPSILON: tl.constexpr,
        SAMPLE: tl.constexpr,
        SCALED: tl.constexpr,
        FLOOR: tl.constexpr,
        BLOCK: tl.constexpr,
    ) -> None:
        row = tl.program_id(0)
        first, n = tl.load(start + row), tl.load(fan_in + row)
        lane = tl.arange(0, BLOCK)
        part = tl.zeros([BLOCK], tl.float32)
        for at in range(0, n, BLOCK):
            part += tl.load(weight + first + at + lane, mask=at + lane < n, other=0.0)
        mean = tl.sum(part) / n
        part = tl.zeros([BLOCK], tl.float32)
        for at in range(0, n, BLOCK):
            inside = at + lane < n
            centred = tl.load(weight + first + at + lane, mask=inside, other=0.0) - mean
            part += tl.where(inside, centred * centred, 0.0)
        variance = tl.sum(part) / (n - 1 if SAMPLE else n)
        if EPSILON == 0:
            guarded = tl.maximum(variance * n, FLOOR)
        elif EPSILON == 1:
            guarded = variance * n + FLOOR
        else:
            guarded = (variance + 1e-5) * n
        inverse = 1.0 / tl.sqrt_rn(guarded)
        if not SCALED:
            inverse = inverse * tl.sqrt_rn(n.to(tl.float32))
        number = tl.load(skip_index + row)
        skip = tl.load(skip_gain + number, mask=number >= 0, other=1.0)
        factor = inverse * tl.load(gain + row) * tl.load(weight_scale + row) * skip
        for at in range(0, n, BLOCK):
            inside = at + lane < n
            centred = tl.load(weight + first + at + lane, mask=inside, other=0.0) - mean
            tl.store(out + first + at + lane, (centred * factor).to(out.dtype.element_ty), mask=inside)
        scaled_bias = tl.load(bias + row) * tl.load(bias_scale + row) * skip
        tl.store(out_bias + row, scaled_bias.to(out_bias.dtype.element_ty))
        tl.store(out_mean + row, mean)
        # A negative sign marks a filter on the floor, whose deviation is a constant.
        if EPSILON == 0:
            inverse = tl.where(variance * n <= FLOOR, -inverse, inverse)
        tl.store(out_inverse + row, inverse)

    @triton.jit  # type: ignore[untyped-decorator]
    def _backward_kernel(  # type: ignore[no-untyped-def]
        gradient,
        bias_gradient,
        weight,
        gain,
        bias,
        skip_gain,
        start,
        fan_in,
        weight_scale,
        bias_scale,
        skip_index,
        mean_of,
        inverse_of,
        of_weight,
        of_gain,
        of_bias,
        of_skip,
        SAMPLE: tl.constexpr,
        SCALED: tl.constexpr,
        BLOCK: tl.constexpr,
    ) -> None:
        row = tl.program_id(0)
        first, n = tl.load(start + row), tl.load(fan_in + row)
        lane = tl.arange(0, BLOCK)
        mean, signed = tl.load(mean_of + row), tl.load(inverse_of + row)
        inverse = tl.abs(signed)
        sums, products = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
        for at in range(0, n, BLOCK):
            inside = at + lane < n
            g = tl.load(gradient + first + at + lane, mask=inside, other=0.0).to(tl.float32)
            centred = tl.load(weight + first + at + lane, mask=inside, other=0.0) - mean
            sums += g
            products += tl.where(inside, g * centred, 0.0)
        mean_gradient, covariance = tl.sum(sums) / n, tl.sum(products)
        number = tl.load(skip_index + row)
        skip = tl.load(skip_gain + number, mask=number >= 0, other=1.0)
        unit_gain, unit_bias = tl.load(gain + row), tl.load(bias + row)
        scale, scale_of_bias = tl.load(weight_scale + row), tl.load(bias_scale + row)
        g_bias = tl.load(bias_gradient + row).to(tl.float32)
        k = unit_gain * scale * skip
        # d r / d var = -r^3 N / 2 with r = 1 / (sigma sqrt(N)); without `scaled`, r has an extra factor sqrt(N).
        slope = -0.5 * inverse * inverse * inverse
        if SCALED:
            slope = slope * n
        slope = tl.where(signed < 0.0, 0.0, slope)
        along = k * covariance * slope * (2.0 / (n - 1 if SAMPLE else n))
        for at in range(0, n, BLOCK):
            inside = at + lane < n
            g = tl.load(gradient + first + at + lane, mask=inside, other=0.0).to(tl.float32)
            centred = tl.load(weight + first + at + lane, mask=inside, other=0.0) - mean
            tl.store(of_weight + first + at + lane, k * inverse * (g - mean_gradient) + along * centred, mask=inside)
        tl.store(of_gain + row, inverse * covariance * scale * skip)
        tl.store(of_bias + row, g_bias * scale_of_bias * skip)
        of_this_skip = inverse * covariance * unit_gain * scale + unit_bias * scale_of_bias * g_bias
        tl.store(of_skip + row, tl.where(number >= 0, of_this_skip, 0.0))


@torch.library.custom_op("nfrepro::standardize_filters", mutates_args=())
def standardize_filters(
    weight: Tensor,
    gain: Tensor,
    bias: Tensor,
    skip_gain: Tensor,
    start: Tensor,
    fan_in: Tensor,
    weight_scale: Tensor,
    bias_scale: Tensor,
    skip_index: Tensor,
    epsilon: str,
    sample: bool,
    scaled: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Effective weights of type `dtype` and biases; means and inverse deviations [filters] for the backward pass."""
    outs = _empty_results(weight, gain, dtype)
    _forward_kernel[(len(gain),)](
        weight, gain, bias, skip_gain, start, fan_in, weight_scale, bias_scale, skip_index, *outs,
        EPSILON=EPSILON_RULES.index(epsilon), SAMPLE=sample, SCALED=scaled, FLOOR=FLOOR, BLOCK=BLOCK,
    )  # fmt: skip
    return outs


@torch.library.custom_op("nfrepro::standardize_filters_backward", mutates_args=())
def standardize_filters_backward(
    gradient: Tensor,
    bias_gradient: Tensor,
    weight: Tensor,
    gain: Tensor,
    bias: Tensor,
    skip_gain: Tensor,
    start: Tensor,
    fan_in: Tensor,
    weight_scale: Tensor,
    bias_scale: Tensor,
    skip_index: Tensor,
    mean: Tensor,
    inverse: Tensor,
    sample: bool,
    scaled: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of weights, gains and biases and, per filter, of the SkipInit scalar that multiplies it."""
    outs = _empty_gradients(weight, gain)
    _backward_kernel[(len(gain),)](
        gradient, bias_gradient, weight, gain, bias, skip_gain, start, fan_in, weight_scale, bias_scale, skip_index,
        mean, inverse, *outs, SAMPLE=sample, SCALED=scaled, BLOCK=BLOCK,
    )  # fmt: skip
    return outs


def _empty_results(weight: Tensor, gain: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(weight, dtype=dtype),
        torch.empty_like(gain),
        torch.empty_like(gain),
        torch.empty_like(gain),
    )


def _empty_gradients(weight: Tensor, gain: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.empty_like(weight), torch.empty_like(gain), torch.empty_like(gain), torch.empty_like(gain)


@standardize_filters.register_fake
def _(weight: Tensor, gain: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty_results(weight, gain, others[-1])


@standardize_filters_backward.register_fake
def _(gradient: Tensor, bias_gradient: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty_gradients(others[0], others[1])
