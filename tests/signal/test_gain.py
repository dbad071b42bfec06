"""gamma by quadrature, against closed forms and against an independent integration."""

import itertools
import math
import re
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import Tensor

from nfrepro.errors import InputError
from nfrepro.models.activation_names import KnownActivation
from nfrepro.models.activations import ACTIVATIONS
from nfrepro.signal import gain, moments

ELEMENTWISE = [name for name, activation in ACTIVATIONS.items() if activation.elementwise]
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
def test_gains_equal_the_fact_sheet(name: Any, exact: float) -> None:
    assert gain(ACTIVATIONS[name].function) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("name", [name for name, known in ACTIVATIONS.items() if known.published_gain is not None])
def test_published_constants_are_within_a_tenth_of_a_percent(name: Any) -> None:
    activation = ACTIVATIONS[name]
    tolerance = 1.3e-3 if name == "glu" else 1e-3  # half as many numbers come out of the authors' samples
    assert activation.gamma("published") == pytest.approx(activation.gamma("exact"), rel=tolerance)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_moments_equal_a_dense_sum(name: Any) -> None:
    z = np.linspace(-14, 14, 2_000_001)
    weight = np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    values = ACTIVATIONS[name].function(torch.from_numpy(z)).numpy()
    mean = (values * weight).sum()
    assert moments(ACTIVATIONS[name].function).mean == pytest.approx(mean, abs=1e-9)
    assert moments(ACTIVATIONS[name].function).variance == pytest.approx(
        ((values - mean) ** 2 * weight).sum(),
        rel=1e-6 if name == "hardshrink" else 1e-8,  # the sum misses its steps
    )


@given(slope=st.floats(0.0, 0.9))
def test_leaky_relu_closed_form(slope: float) -> None:
    variance = 0.5 * (1 + slope**2) - (1 - slope) ** 2 / (2 * math.pi)
    assert moments(lambda x: F.leaky_relu(x, slope)).variance == pytest.approx(variance, rel=1e-12)


def normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


HARDTANH_SECOND = (2 * normal_cdf(1) - 1) - 2 * math.exp(-0.5) / math.sqrt(2 * math.pi) + 2 * normal_cdf(-1)
CLOSED_FORMS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "relu": (F.relu, RELU_VARIANCE),
    "identity": (lambda x: x, 1.0),
    "abs": (torch.abs, 1 - 2 / math.pi),
    "hardtanh": (F.hardtanh, HARDTANH_SECOND),
    "square": (torch.square, 2.0),
    "ninth power": (lambda x: x**9, math.prod(range(17, 0, -2))),
    "erf": (torch.erf, 2 / math.pi * math.asin(2 / 3)),
    "cos": (torch.cos, (1 + math.exp(-2)) / 2 - math.exp(-1)),
    "exp": (torch.exp, math.e * (math.e - 1)),
    "sign": (torch.sign, 1.0),
    "step at 0.3": (lambda x: (x > 0.3).double(), normal_cdf(0.3) * normal_cdf(-0.3)),
    "far from 0": (lambda x: x + 1000, 1.0),
    "tiny": (lambda x: 1e-30 * x, 1e-60),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_variance_has_its_closed_form_to_the_last_digits(name: str) -> None:
    function, variance = CLOSED_FORMS[name]
    assert moments(function).variance == pytest.approx(variance, rel=1e-13, abs=0)
    assert gain(function) == pytest.approx(variance**-0.5, rel=1e-13)


# Function, the same for one number, and where it is not smooth.
KINKED: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[float], float], list[float]]] = {
    "relu6": (F.relu6, lambda z: min(max(z, 0), 6), [0, 6]),
    "hardswish": (F.hardswish, lambda z: z * min(max(z + 3, 0), 6) / 6, [-3, 3]),
    "abs(x - 1)": (lambda x: (x - 1).abs(), lambda z: abs(z - 1), [1]),
    "abs(x - 1/7)": (lambda x: (x - 1 / 7).abs(), lambda z: abs(z - 1 / 7), [1 / 7]),
    "softshrink": (
        lambda x: F.softshrink(x, 0.37),
        lambda z: math.copysign(max(abs(z) - 0.37, 0), z),
        [-0.37, 0.37],
    ),
    "stairs": (lambda x: torch.floor(3 * x), lambda z: math.floor(3 * z), [step / 3 for step in range(-42, 43)]),
    "threshold at 1.1": (lambda x: torch.where(x > 1.1, x, 0.0), lambda z: z if z > 1.1 else 0, [1.1]),
    "narrow bump": (
        lambda x: (1 - 20 * (x - 0.2).abs()).relu(),
        lambda z: max(1 - 20 * abs(z - 0.2), 0),
        [0.15, 0.2, 0.25],
    ),
}


@pytest.mark.parametrize("name", KINKED)
def test_kinks_may_be_anywhere(name: str) -> None:
    function, reference, kinks = KINKED[name]
    edges = sorted({*kinks, *map(float, range(-14, 15))})

    def expectation(power: int) -> float:
        def integrand(z: float) -> float:
            return reference(z) ** power * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

        return math.fsum(quad(integrand, a, b, epsabs=1e-16)[0] for a, b in itertools.pairwise(edges))

    mean = expectation(1)
    assert moments(function).mean == pytest.approx(mean, rel=1e-11, abs=1e-13)
    assert moments(function).variance == pytest.approx(expectation(2) - mean**2, rel=1e-11)


@given(at=st.floats(-5, 5))
def test_a_step_may_be_anywhere(at: float) -> None:
    variance = normal_cdf(at) * normal_cdf(-at)
    assert moments(lambda x: (x > at).double()).variance == pytest.approx(variance, rel=1e-9)


def test_glu_has_the_gain_of_its_definition() -> None:
    glu = ACTIVATIONS["glu"]
    # E[sigmoid(b)^2]; the mean of a sigmoid(b) is 0 and E[a^2] = 1.
    second = quad(lambda z: math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / (1 + math.exp(-z)) ** 2, -14, 14)[0]
    assert glu.gamma("exact") == pytest.approx(second**-0.5, rel=1e-10)
    assert glu.gamma("published") == 1.8484294414520264
    x = torch.randn(1000, 512, 2, 2, generator=torch.Generator().manual_seed(0))
    out = glu.function(x)
    assert out.shape[1] == 512 / 2
    assert out.var().item() ** -0.5 == pytest.approx(glu.gamma("exact"), rel=3e-3)


def test_log_softmax_keeps_the_variance_of_a_pixel_whatever_the_channels() -> None:
    log_softmax = ACTIVATIONS["log_softmax"]
    assert log_softmax.gamma("exact") == 1.0
    for channels in (2, 64, 1024):
        x = torch.randn(8, channels, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(channels))
        torch.testing.assert_close(log_softmax.function(x).var(1), x.var(1), rtol=1e-10, atol=0)
    # Over pixels: 1 - 2/C + Var(logsumexp), where Var(logsumexp) is about (e - 1)/C.
    x = torch.randn(40_000, 64, 1, 1, generator=torch.Generator().manual_seed(0))
    variance = log_softmax.function(x).var(0).mean().item()
    assert variance == pytest.approx(1 - 2 / 64 + (math.e - 1) / 64, abs=2e-3)


def test_there_is_a_gain_for_every_activation_of_the_authors_table() -> None:
    assert set(ACTIVATIONS) == set(get_args(KnownActivation))
    published = {name for name, known in ACTIVATIONS.items() if known.published_gain is not None}
    assert len(published - {"identity", "gelu_erf"}) == 15


def test_all_elementwise_activations_of_torch_are_there() -> None:
    # Left out: those that learn, draw, need arguments or mix numbers, and what is no activation.
    out = ("PReLU", "RReLU", "Threshold", "GLU", "Softmin", "Softmax", "Softmax2d", "LogSoftmax", "MultiheadAttention")
    z = torch.linspace(-5, 5, 1001, dtype=torch.float64)
    ours = [known.function(z) for known in ACTIVATIONS.values() if known.elementwise]
    for name in torch.nn.modules.activation.__all__:
        if name not in out:
            values = getattr(torch.nn, name)()(z)
            assert any(torch.allclose(values, other, rtol=1e-12, atol=1e-12) for other in ours), name


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (torch.zeros_like, "mean 0, variance 0 under"),
        (lambda x: torch.full_like(x, 0.1), "mean 0.1, variance"),
        (lambda x: x * math.nan, "it is nan at -14, not finite"),
        (torch.log, "it is nan at -14, not finite"),
        (lambda x: 1 / x.round(), "it is -?inf at"),
        (lambda x: torch.exp(x**4), "it is inf at -14, not finite"),
        (lambda x: torch.exp(x**2 / 2), "no finite variance: its tails outgrow the Gaussian's"),
        (lambda x: torch.exp(0.26 * x**2), "no finite variance"),
        (3, "3 has no usable gain: it is not a function"),
        (None, "it is not a function"),
        (math.tanh, r"it fails on \[61\] numbers: "),
        (lambda x: F.glu(x, dim=1), r"it fails on \[61\] numbers: Dimension"),
        (lambda x: x.relu9(), r"it fails on \[61\] numbers: .*relu9"),
        (lambda x: x[:1], r"\[61\] numbers become \[1\]"),
        (lambda x: x.sum(), r"\[61\] numbers become \[\]"),
        (lambda x: 1.0, "it does not return a tensor of real numbers"),
        (lambda x: x + 1j, "it does not return a tensor of real numbers"),
        (lambda x: F.log_softmax(x, 0), "it is not elementwise: at -3 it gives -"),
        (lambda x: x - x.mean(), "it is not elementwise"),
        (lambda x: x.cumsum(0), "it is not elementwise"),
        (torch.rand_like, "it is random, or has a state: at -14 it gives 0"),
        (lambda x: torch.sin(1e9 * x), "it varies too fast for any quadrature"),
    ],
)
def test_what_has_no_gain_is_refused(function: Any, message: str) -> None:
    with pytest.raises(InputError, match="has no usable gain") as error:
        gain(function)
    assert re.search(message, str(error.value))


def test_modules_and_functions_that_work_in_place_have_gains() -> None:
    assert gain(torch.nn.ReLU(inplace=True)) == gain(F.relu)
    prelu = torch.nn.PReLU(init=0.2).double()
    assert gain(prelu) == pytest.approx(gain(lambda x: F.leaky_relu(x, 0.2)), rel=1e-7)  # its slope is a float32
    with torch.no_grad():
        prelu.weight.fill_(1.0)
    assert gain(prelu) == pytest.approx(1.0)  # nothing is remembered


def test_gains_are_found_while_networks_are_made_without_memory() -> None:
    with torch.device("meta"):
        found = gain(F.relu)
    assert found == gain(F.relu)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("function", [torch.nn.functional.silu, torch.tanh, torch.relu, torch.cosh])
def test_functions_that_compute_in_a_shorter_type(function: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    if function is torch.cosh and dtype is torch.float16:
        pytest.skip("cosh(14) is larger than float16 holds")
    found = gain(lambda x: function(x.to(dtype)))
    assert found == pytest.approx(gain(function), rel=4 * torch.finfo(dtype).eps)


def test_heavy_tails_that_the_gaussian_still_tames() -> None:
    # E exp(a z) = exp(a^2 / 2), so that the variance is exp(2 a^2) - exp(a^2): at a = 8 it lies around z = 16.
    assert gain(lambda x: torch.exp(8 * x)) == pytest.approx((math.exp(128) - math.exp(64)) ** -0.5, rel=1e-9)
    # E exp(b z^2) = (1 - 2 b)^(-1/2).
    variance = (1 - 4 * 0.2) ** -0.5 - (1 - 2 * 0.2) ** -1
    assert gain(lambda x: torch.exp(0.2 * x * x)) == pytest.approx(variance**-0.5, rel=1e-9)


class CountsCalls:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


class Complains:
    def __call__(self, x: Tensor) -> Tensor:
        raise RuntimeError("first line\nsecond line")


def test_tails_are_followed_no_farther_than_a_type_holds_them() -> None:
    # E exp(b z^2) = (1 - 2 b)^(-1/2); at 38 exp(0.2 z^2) is larger than float32 holds, and x^200 than float64.
    variance = (1 - 4 * 0.2) ** -0.5 - (1 - 2 * 0.2) ** -1
    assert gain(lambda x: torch.exp(0.2 * x.float() ** 2)) == pytest.approx(variance**-0.5, rel=1e-5)
    odd = sum(math.log(factor) for factor in range(1, 200, 2))  # E z^200 = 199!!
    half = sum(math.log(factor) for factor in range(1, 100, 2))
    assert math.exp(2 * half - odd) < 1e-20
    assert math.log(gain(lambda x: x**100)) == pytest.approx(-odd / 2, abs=1e-9)


def test_modules_with_parameters_in_float32_and_eight_bits() -> None:
    assert gain(torch.nn.PReLU(init=0.2)) == pytest.approx(gain(lambda x: F.leaky_relu(x, 0.2)), rel=1e-6)
    assert gain(lambda x: x.to(torch.float8_e4m3fn)) == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (torch.tan, r"no finite variance: it has a pole at -?(1\.5708|4\.71239|7\.85398|10\.9956)"),
        (lambda x: torch.exp(0.25 * x * x), "no finite variance: its tails outgrow the Gaussian's"),
        (lambda x: torch.exp(x**4), "it is inf at -14, not finite: larger than float64 holds"),
        (lambda x: x.float() ** 40, "it is inf at -14, not finite: larger than float32 holds"),
        (lambda x: 1 / x, "it is inf at 0, not finite$"),
        # E exp(0.498 z^2) is finite, but half of it lies beyond 38.
        (lambda x: torch.exp(0.249 * x * x), "its tails count beyond 38 standard deviations, where float64 ends"),
        (
            lambda x: torch.exp(0.23 * x.float() ** 2),
            "it is inf at -20, not finite: larger than float32 .* because of its tails",
        ),
        (lambda x: torch.where((x > 3.14) & (x < 3.15), math.nan, x), r"it is nan at 3\.14\d*, not finite"),
        (lambda x: F.dropout(x, 0.5), "it is random, or has a state"),
        (lambda x: x + 1e-12 * torch.rand_like(x), "it is random, or has a state"),
        (lambda x: torch.where(x > 4, torch.rand_like(x), x), "it is random, or has a state: at 4"),
        (lambda x: x * torch.rand(()), "it is random, or has a state"),
        (CountsCalls(), r"it is random, or has a state: at -14 it gives -\d+\.0 the first time and -\d+\.0 the second"),
        (Complains(), r"it fails on \[61\] numbers: first line$"),
    ],
)
def test_the_reason_for_a_refusal_is_the_true_one(function: Callable[[Tensor], Tensor], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        gain(function)
