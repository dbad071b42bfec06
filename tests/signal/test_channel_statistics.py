"""Channel statistics against numpy in float64."""

import numpy as np
import pytest
import torch

from nfrepro.signal.channel_statistics import _in_two_passes, channel_statistics

SHAPES = [(2, 64, 32, 32), (8, 300, 1, 1), (3, 5, 7, 7), (1, 3, 129, 130), (2, 2, 90, 91), (4, 513, 9, 2), (1, 1, 1, 1)]


def reference(x: torch.Tensor) -> tuple[float, float]:
    values = x.double().numpy()
    return float((values.mean((0, 2, 3)) ** 2).mean()), float(values.var((0, 2, 3)).mean())


def check(x: torch.Tensor, rel: float = 1e-6) -> None:
    for function in (channel_statistics, _in_two_passes):
        found = function(x)
        squared_mean, variance = reference(x)
        assert float(found.avg_sq_mean) == pytest.approx(squared_mean, rel=rel, abs=0.0), function
        assert float(found.avg_var) == pytest.approx(variance, rel=rel, abs=0.0), function


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("mean", [0.0, 1.0, 3.0, 1000.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_equal_float64(shape: tuple[int, ...], mean: float, layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator) + mean * torch.randn(shape[1], 1, 1, generator=generator)
    if shape == (1, 1, 1, 1):
        assert channel_statistics(x).avg_var == 0
    else:
        check(x.contiguous(memory_format=layout))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("mean", [0.0, 5.0])
def test_any_floating_type(dtype: torch.dtype, mean: float) -> None:
    check((torch.randn(2, 16, 24, 24) + mean).to(dtype))


def test_half_precision_neither_overflows_nor_rounds_the_sums() -> None:
    check((torch.randn(4, 3, 64, 64) * 3000).half())


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e-12, 1e12, 1e22, 1e30])
@pytest.mark.parametrize("mean", [0.0, 10.0])
def test_neither_overflow_nor_underflow_of_squares(scale: float, mean: float) -> None:
    check((torch.randn(2, 8, 16, 16) + mean) * scale)


def test_channels_of_very_different_scales() -> None:
    check(torch.randn(2, 8, 16, 16) * 10.0 ** torch.arange(-4, 4)[:, None, None])


def test_zeros_and_constants() -> None:
    zero = channel_statistics(torch.zeros(2, 4, 8, 8))
    assert (zero.avg_sq_mean, zero.avg_var) == (0, 0)
    constant = channel_statistics(torch.full((2, 4, 8, 8), 3.0))
    assert float(constant.avg_sq_mean) == pytest.approx(9.0)
    assert float(constant.avg_var) == pytest.approx(0.0, abs=1e-12)


def test_views_that_are_not_dense() -> None:
    x = torch.randn(4, 12, 20, 20)
    for view in (x[:, ::2], x[::2, :, 1:, ::3], x.transpose(2, 3), x[:1].expand(3, -1, -1, -1)):
        check(view)


def test_channels_in_the_last_dimension() -> None:
    x = torch.randn(2, 6, 5, 8)
    expected = reference(x.permute(0, 3, 1, 2))
    found = channel_statistics(x, channel_dim=3)
    assert (float(found.avg_sq_mean), float(found.avg_var)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(value: float) -> None:
    x = torch.randn(2, 4, 8, 8)
    x[1, 2, 3, 4] = value
    found = channel_statistics(x)
    assert not np.isfinite(float(found.avg_sq_mean))
    assert not np.isfinite(float(found.avg_var))


def test_leaves_the_activation_alone_and_needs_no_gradient() -> None:
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    before = x.detach().clone()
    assert not channel_statistics(x).avg_var.requires_grad
    assert torch.equal(x, before)
