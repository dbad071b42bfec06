"""Fits of decay: exact laws, noise, and what cannot be fitted; and the quantity of claims that rests on them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy import stats

from nfrepro.claims.measured_run import MeasuredRun, NoValue
from nfrepro.claims.quantities import Quantity
from nfrepro.errors import InputError
from nfrepro.stats.decay import fit_decay

DEPTHS = [1.0, 2.0, 4.0, 8.0, 16.0]


@given(st.floats(0.1, 0.99), st.floats(0.01, 100))
def test_an_exponential_is_found_exactly(rate: float, scale: float) -> None:
    values = [scale * rate**x for x in DEPTHS]
    fit = fit_decay(DEPTHS, values, "exponential")
    assert (fit.rate, fit.scale) == (pytest.approx(rate), pytest.approx(scale))
    assert fit.r_squared == pytest.approx(1.0)
    assert fit.at(3.0) == pytest.approx(scale * rate**3)
    assert fit_decay(DEPTHS, values, "power").r_squared < 0.95


@given(st.floats(0.1, 3.0), st.floats(0.01, 100))
def test_a_power_is_found_exactly(rate: float, scale: float) -> None:
    values = [scale * x**-rate for x in DEPTHS]
    fit = fit_decay(DEPTHS, values, "power")
    assert (fit.rate, fit.scale) == (pytest.approx(rate), pytest.approx(scale))
    assert fit.r_squared == pytest.approx(1.0)
    assert fit.at(3.0) == pytest.approx(scale * 3**-rate)
    assert fit_decay(DEPTHS, values, "exponential").r_squared < 0.95


def test_with_noise_it_is_scipys_line() -> None:
    values = np.exp(-0.3 * np.array(DEPTHS) + np.random.default_rng(0).normal(0, 0.2, 5))
    line = stats.linregress(DEPTHS, np.log(values))
    fit = fit_decay(DEPTHS, values.tolist(), "exponential")
    assert fit.rate == pytest.approx(np.exp(line.slope))
    assert fit.r_squared == pytest.approx(line.rvalue**2)


def test_what_noise_hides_is_left_out() -> None:
    values = [0.7**x for x in DEPTHS[:4]]
    whole = fit_decay(DEPTHS[:4], values, "exponential", 0.01)
    noisy = fit_decay([*DEPTHS, 32, 64], [*values, 0.009, -0.002, 0.5], "exponential", 0.01)
    assert noisy == whole
    assert whole.points == 4


@pytest.mark.parametrize(
    ("x", "y", "law", "least", "message"),
    [
        ([1, 2, 4], [0.5, 0.3, 0.1], "power", 0.0, "4 depths or more, and 3 of 3 come before one that is not above 0"),
        (
            DEPTHS,
            [0.5, 0.3, 0.1, 0.009, -0.1],
            "power",
            0.01,
            "4 depths or more, and 3 of 5 come before one that is not above 0.01",
        ),
        ([1, 1, 1, 1, 2], [0.5, 0.4, 0.3, 0.2, 0.1], "power", 0.0, "4 depths or more, and 2 of 5"),
        ([0, 1, 2, 3], [0.5, 0.4, 0.3, 0.2], "power", 0.0, "no power law through x = 0"),
        (DEPTHS, [0.5] * 5, "power", 0.0, "all values are equal"),
        (DEPTHS, [0.5, 0.4, 0.3, float("nan"), float("nan")], "power", 0.0, "and 3 of 5"),
    ],
)
def test_what_cannot_be_fitted_says_why(x: list[float], y: list[float], law: Any, least: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_decay(x, y, law, least)


def runs(values: list[float]) -> list[MeasuredRun]:
    return [
        MeasuredRun({"id": f"run{depth:g}", "seed": 5, "depth": depth, "y": value}, Path("nowhere"))
        for depth, value in zip(DEPTHS, values, strict=True)
    ]


def quantity(**arguments: Any) -> Any:
    return TypeAdapter(Quantity).validate_python({"name": "decay", "column": "y", "along": "depth", **arguments})


def test_the_quantity_is_the_rate_or_how_much_better_the_law_fits() -> None:
    values = [0.8 * x**-0.7 for x in DEPTHS]
    power, exponential = quantity(law="power"), quantity(law="exponential")
    assert power.value(runs(values)) == pytest.approx(0.7)
    line = stats.linregress(DEPTHS, np.log(values))
    assert exponential.value(runs(values)) == pytest.approx(np.exp(line.slope))
    gain = quantity(law="power", measure="fit_gain")
    assert gain.value(runs(values)) == pytest.approx(1 - line.rvalue**2)
    assert quantity(law="exponential", measure="fit_gain").value(runs(values)) == pytest.approx(line.rvalue**2 - 1)
    assert str(power) == "-exponent of y in depth"
    assert power.columns == ("y", "depth")


def test_too_few_depths_are_no_value() -> None:
    with pytest.raises(
        NoValue,
        match=r"y of seed 5: a decay needs 4 depths or more, and 3 of 5 come before one that is not above 0\.2",
    ):
        quantity(law="power", least=0.2).value(runs([0.9, 0.5, 0.3, 0.2, 0.1]))
