"""Triton kernels that add a convolution's bias on a GPU, and sum the bias gradient, at memory bandwidth.

Every convolution with Scaled Weight Standardization has a bias; those of BatchNorm networks have none. cuDNN adds the
bias in a separate pass, and PyTorch sums its gradient, each several times slower than the memory traffic requires.
"""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

# Elements of a tile, the most channels of a tile, and the most tiles that are summed in parallel. Tiling depends on the
# shape alone, so sums have the same order on every GPU.
TILE = 4096
WIDEST = 128
MOST_PARTS = 256

if find_spec("triton") is not None:
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator]
    def _add_kernel(  # type: ignore[no-untyped-def]
        x, bias, rows, channels, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr
    ) -> None:
        row = (tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)).to(tl.int64)
        column = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
        inside = (row[:, None] < rows) & (column[None, :] < channels)
        at = row[:, None] * channels + column[None, :]
        added = tl.load(bias + column, mask=column < channels, other=0.0)
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) + added[None, :]
        tl.store(x + at, value.to(x.dtype.element_ty), mask=inside)

    @triton.jit  # type: ignore[untyped-decorator]
    def _sum_kernel(  # type: ignore[no-untyped-def]
        x, out, rows, channels, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr
    ) -> None:
        part, parts = tl.program_id(0), tl.num_programs(0)
        column = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
        total = tl.zeros([BLOCK_R, BLOCK_C], tl.float32)
        for tile in range(part, tl.cdiv(rows, BLOCK_R), parts):
            row = (tile * BLOCK_R + tl.arange(0, BLOCK_R)).to(tl.int64)
            inside = (row[:, None] < rows) & (column[None, :] < channels)
            at = row[:, None] * channels + column[None, :]
            total += tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(out + part * channels + column, tl.sum(total, 0), mask=column < channels)


def _add(x: Tensor, bias: Tensor) -> None:
    rows, channels, block_r, block_c = _tiles(x.numel(), x.shape[1])
    grid = (-(-rows // block_r), -(-channels // block_c))
    _add_kernel[grid](x, bias, rows, channels, BLOCK_R=block_r, BLOCK_C=block_c)


def _sum_of_channels(x: Tensor) -> Tensor:
    """The sum over all dimensions except channels, float32 [C], in two steps of fixed order."""
    rows, channels, block_r, block_c = _tiles(x.numel(), x.shape[1])
    columns = -(-channels // block_c)
    parts = max(1, min(-(-rows // block_r), MOST_PARTS // columns))
    partial = x.new_empty(parts, channels, dtype=torch.float32)
    _sum_kernel[(parts, columns)](x, partial, rows, channels, BLOCK_R=block_r, BLOCK_C=block_c)
    out = x.new_empty(channels, dtype=torch.float32)
    _sum_kernel[(1, columns)](partial, out, parts, channels, BLOCK_R=block_r, BLOCK_C=block_c)
    return out


# For the device "meta", where operators are counted. On a GPU, dispatching a torch operator costs more CPU time than
# the launch itself.
@torch.library.custom_op("nfrepro::add_bias", mutates_args=("x",))
def _add_operator(x: Tensor, bias: Tensor) -> None:
    _add(x, bias)


@torch.library.custom_op("nfrepro::sum_of_channels", mutates_args=())
def _sum_operator(x: Tensor) -> Tensor:
    return _sum_of_channels(x)


@_add_operator.register_fake
def _(x: Tensor, bias: Tensor) -> None:
    return None


@_sum_operator.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[1], dtype=torch.float32)


def _tiles(elements: int, channels: int) -> tuple[int, int, int, int]:
    """Rows and channels of [N, C, H, W] in channels-last layout, and those of a tile."""
    block_c = min(WIDEST, 1 << (channels - 1).bit_length())
    return elements // channels, channels, TILE // block_c, block_c


class _AddBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor) -> Tensor:
        (_add_operator if x.device.type == "meta" else _add)(x, bias)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        if not _is_channels_last(gradient):
            gradient = gradient.contiguous(memory_format=torch.channels_last)
        summed = (_sum_operator if gradient.device.type == "meta" else _sum_of_channels)(gradient)
        return gradient, summed


def add_bias(x: Tensor, bias: Tensor) -> Tensor:
    """`x` [N, C, H, W], a convolution's output, used only here, plus `bias` float32 [C]; in place if channels-last."""
    if not _is_channels_last(x):
        return x + bias.to(x.dtype)[:, None, None]
    out: Tensor = _AddBias.apply(x, bias)
    return out


def _is_channels_last(x: Tensor) -> bool:
    """Whether `x` is channels-last; always true on "meta", where convolutions do not track the layout."""
    return x.device.type == "meta" or x.is_contiguous(memory_format=torch.channels_last)
