"""gamma by quadrature, against closed forms and against an independent integration."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from nfrepro.models.activations import ACTIVATIONS
from nfrepro.signal import gain, moments

RELU_VARIANCE = 0.5 * (1 - 1 / math.pi)


def test_relu_has_its_closed_form() -> None:
    assert moments(F.relu).mean == pytest.approx(1 / math.sqrt(2 * math.pi), rel=1e-14)
    assert gain(F.relu) == pytest.approx(1 / math.sqrt(RELU_VARIANCE), rel=1e-14)


EXACT = {
    "silu": 1.787187,
    "gelu": 1.700917,
    "elu": 1.270843,
    "selu": 1.0,
    "tanh": 1.592537,
    "sigmoid": 4.801313,
    "softplus": 1.919126,
    "log_sigmoid": 1.919126,
    "soft_sign": 2.337533,
    "leaky_relu": 1.704832,
}


@pytest.mark.parametrize(("name", "exact"), EXACT.items())
def test_gains_equal_the_fact_sheet(name: str, exact: float) -> None:
    assert gain(ACTIVATIONS[name].function) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_published_constants_are_within_a_tenth_of_a_percent(name: str) -> None:
    activation = ACTIVATIONS[name]
    assert activation.gamma("published") == pytest.approx(activation.gamma("exact"), rel=1e-3)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_moments_equal_a_dense_sum(name: str) -> None:
    z = np.linspace(-14, 14, 2_000_001)
    weight = np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    values = ACTIVATIONS[name].function(torch.from_numpy(z)).numpy()
    mean = (values * weight).sum()
    assert moments(ACTIVATIONS[name].function).mean == pytest.approx(mean, abs=1e-9)
    assert moments(ACTIVATIONS[name].function).variance == pytest.approx(
        ((values - mean) ** 2 * weight).sum(), rel=1e-8
    )


@given(slope=st.floats(0.0, 0.9))
def test_leaky_relu_closed_form(slope: float) -> None:
    variance = 0.5 * (1 + slope**2) - (1 - slope) ** 2 / (2 * math.pi)
    assert moments(lambda x: F.leaky_relu(x, slope)).variance == pytest.approx(variance, rel=1e-12)


def test_a_function_without_variance_has_no_gain() -> None:
    with pytest.raises(ValueError, match="no usable gain"):
        gain(torch.zeros_like)
    with pytest.raises(ValueError, match="no usable gain"):
        gain(lambda x: torch.exp(x**4))
