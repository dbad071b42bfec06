"""Convolutions against float64 definitions written out another way."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nfrepro.models.convolutions import (
    Conv2d,
    EpsilonRule,
    ScaledWSConv2d,
    Standardization,
    VarianceEstimator,
    init_truncated_normal,
    same_padding,
    standardize,
)


def standardized_by_definition(weight: np.ndarray) -> np.ndarray:
    """(W_ij - mu_i) / (sigma_i sqrt(N)), unit by unit."""
    units = []
    for unit in weight.reshape(len(weight), -1):
        units.append((unit - unit.mean()) / (np.sqrt(((unit - unit.mean()) ** 2).mean()) * np.sqrt(unit.size)))
    return np.stack(units).reshape(weight.shape)


@pytest.mark.parametrize(("in_channels", "kernel"), [(1, 3), (3, 7), (64, 1), (16, 3)])
def test_scaled_ws_is_its_definition(in_channels: int, kernel: int) -> None:
    convolution = ScaledWSConv2d(in_channels, 5, kernel).double()
    with torch.no_grad():
        convolution.weight.mul_(3).add_(0.7)
        convolution.gain.uniform_(0.5, 2)
        convolution.bias.uniform_(-1, 1)
        got = convolution.effective_weight().numpy()
    expected = standardized_by_definition(convolution.weight.detach().numpy())
    expected *= convolution.gain.detach().numpy()[:, None, None, None]
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)


def test_scales_in_the_weight_equal_scales_on_the_activation() -> None:
    convolution = ScaledWSConv2d(6, 4, 3, stride=2).double()
    torch.nn.init.uniform_(convolution.bias)
    x = torch.randn(2, 6, 9, 8, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    folded = convolution(x, input_scale=1.7, output_scale=0.2 * scale)
    plain = 0.2 * scale * convolution(1.7 * x)
    torch.testing.assert_close(folded, plain, rtol=1e-12, atol=1e-12)
    parameters = [x, scale, *convolution.parameters()]
    for one, other in zip(
        torch.autograd.grad(folded.square().sum(), parameters),
        torch.autograd.grad(plain.square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.filterwarnings("error")
def test_a_vanished_filter_gives_no_infinity() -> None:
    convolution = ScaledWSConv2d(2, 3, 3)
    torch.nn.init.zeros_(convolution.weight)
    out = convolution(torch.randn(1, 2, 5, 5))
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(convolution.weight.grad).all()


@given(st.integers(1, 40), st.sampled_from([1, 3, 7]), st.sampled_from([1, 2, 3]))
def test_same_padding_gives_the_size_xla_gives(size: int, kernel: int, stride: int) -> None:
    before, after = same_padding(size, kernel, stride)
    assert after - before in (0, 1)
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride) or stride > kernel


@settings(max_examples=25)
@given(st.integers(5, 12), st.integers(5, 12), st.sampled_from([1, 3]), st.sampled_from([1, 2]))
def test_same_convolution_visits_the_pixels_xla_visits(height: int, width: int, kernel: int, stride: int) -> None:
    convolution = Conv2d(1, 1, kernel, stride, "same").double()
    x = torch.randn(1, 1, height, width, dtype=torch.float64)
    got = convolution(x)[0, 0].detach().numpy()
    image, weight = x[0, 0].numpy(), convolution.weight.detach()[0, 0].numpy()
    rows, columns = same_padding(height, kernel, stride), same_padding(width, kernel, stride)
    padded = np.pad(image, (rows, columns))
    assert got.shape == (-(-height // stride), -(-width // stride))
    for i in range(got.shape[0]):
        for j in range(got.shape[1]):
            patch = padded[i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            assert got[i, j] == pytest.approx((patch * weight).sum(), abs=1e-12)


def test_torch_padding_is_symmetric() -> None:
    convolution = Conv2d(2, 3, 3, 2, "torch")
    x = torch.randn(1, 2, 8, 8)
    torch.testing.assert_close(convolution(x), F.conv2d(x, convolution.weight, stride=2, padding=1))


def test_truncated_normal_has_the_variance_asked_for() -> None:
    torch.manual_seed(0)
    weight = torch.empty(512, 64, 3, 3)
    init_truncated_normal(weight, scale=2.0)
    assert weight.var().item() * 576 == pytest.approx(2.0, rel=0.01)
    assert weight.abs().max().item() <= 2 * (2.0 / 576) ** 0.5 / 0.8796 + 1e-6


@pytest.mark.parametrize("epsilon", ["floor", "sum", "timm"])
@pytest.mark.parametrize("variance", ["population", "sample"])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("size", [1.0, 1e-3], ids=["ordinary", "below the floor"])
def test_gradients_of_standardization_equal_finite_differences(
    epsilon: EpsilonRule, variance: VarianceEstimator, scaled: bool, size: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = size * torch.randn(3, 2, 3, 3, dtype=torch.float64, generator=generator) + 0.3 * size
    gain = torch.rand(3, dtype=torch.float64, generator=generator) + 0.5
    how = Standardization(scaled, epsilon, variance)
    inputs = (weight.requires_grad_(), gain.requires_grad_())
    # Steps of 1e-6 of a weight of 1e-3 still are 1,000 times smaller than what they change.
    assert torch.autograd.gradcheck(lambda w, g: standardize(w, g, how), inputs, eps=1e-6 * size, atol=1e-4, rtol=1e-4)


def test_standardization_forgets_no_digit_for_a_large_mean() -> None:
    weight = torch.randn(4, 8, 3, 3, dtype=torch.float64) + 1000.0
    exact = torch.from_numpy(standardized_by_definition(weight.numpy()))
    got = standardize(weight.float(), torch.ones(4), Standardization()).double()
    # float32 keeps 1000 to 6e-5: that is what is lost, and no more.
    torch.testing.assert_close(got, exact, rtol=0, atol=1e-4)
