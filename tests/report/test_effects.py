"""Effects on the scale that all claims share: signs, closed cases, and places on the strip."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfrepro.report.effects import STRIP_WIDTH, Effect, effect, strip_place
from nfrepro.stats.intervals import Bounds, Interval


def of(low: float, mean: float, high: float, bounds: Bounds) -> Effect:
    found = effect(Interval(mean, low, high, 3, ""), bounds)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [
        (Bounds(low=1), (2, 1, 3)),  # from 2 to 4, one half width above the bound
        (Bounds(high=1), (-2, -3, -1)),
        (Bounds(1, 4.5), (1.5, 0.5, 2.5)),  # the upper bound is nearer
        (Bounds(1, 2.5), (-0.5, -1.5, 0.5)),
    ],
)
def test_closed_cases(bounds: Bounds, wanted: tuple[float, float, float]) -> None:
    found = of(2, 3, 4, bounds)
    assert (found.estimate, found.low, found.high) == pytest.approx(wanted)


# Not so small that a difference underflows to 0 when it is divided.
NUMBERS = st.integers(-(10**6), 10**6).map(lambda number: number / 64)


@given(st.lists(NUMBERS, min_size=3, max_size=3, unique=True).map(sorted), NUMBERS, st.booleans())
def test_an_effect_is_positive_where_the_rule_holds(values: list[float], end: float, is_low: bool) -> None:
    bounds = Bounds(low=end) if is_low else Bounds(high=end)
    found = of(values[0], values[1], values[2], bounds)
    assert found.low <= found.estimate <= found.high
    if values[1] != end:
        assert (found.estimate > 0) == (values[1] in bounds)


def test_exact_numbers_stand_at_the_edge() -> None:
    assert of(1, 1, 1, Bounds(low=0)).marks == (strip_place(math.inf),) * 3
    assert of(-1, -1, -1, Bounds(low=0)).marks == (strip_place(-math.inf),) * 3
    assert of(0, 0, 0, Bounds(0, 0)).text == "within the rule, without an interval"


def test_what_has_no_number_or_no_bound_has_no_effect() -> None:
    assert effect(Interval(1, -math.inf, math.inf, 3, ""), Bounds(low=0)) is None
    assert effect(Interval(1, 0, 2, 3, ""), Bounds()) is None


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_places_keep_order_within_the_strip(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 < strip_place(low) <= strip_place(high) < STRIP_WIDTH
    assert strip_place(-low) == pytest.approx(STRIP_WIDTH - strip_place(low), abs=0.11)
