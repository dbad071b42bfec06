"""The small picture of a test: what it shows lies where the numbers are."""

import math

from hypothesis import given
from hypothesis import strategies as st

from nfrepro.report.interval_picture import WIDTH, picture
from nfrepro.stats.intervals import Bounds, Interval

NUMBERS = st.floats(-1e6, 1e6)


def interval(low: float, mean: float, high: float) -> Interval:
    return Interval(mean, low, high, 3, "")


@given(st.lists(NUMBERS, min_size=3, max_size=3).map(sorted), NUMBERS, st.floats(0, 1e6), st.booleans())
def test_order_and_sides_are_those_of_the_numbers(values: list[float], low: float, width: float, two: bool) -> None:
    bounds = Bounds(low, low + width) if two else Bounds(low=low)
    drawn = picture(interval(*values), bounds)
    assert drawn is not None
    places = [drawn.low, drawn.estimate, drawn.high]
    assert places == sorted(places)
    assert all(0 <= place <= WIDTH for place in [*places, *drawn.allowed, *(mark.x for mark in drawn.bounds)])
    if values[1] in bounds:
        assert drawn.allowed[0] <= drawn.estimate <= drawn.allowed[1]
    else:
        assert drawn.estimate <= drawn.allowed[0] or drawn.estimate >= drawn.allowed[1]


def test_a_closed_case() -> None:
    # From 0 to 10, with 16 % of that on either side: 320 / 13.2 a unit.
    drawn = picture(interval(2, 5, 10), Bounds(low=0))
    assert drawn is not None
    unit = WIDTH / 13.2
    assert [drawn.low, drawn.estimate, drawn.high] == [round(unit * (1.6 + value), 1) for value in (2, 5, 10)]
    assert (drawn.allowed, drawn.bounds[0].x, drawn.bounds[0].label) == ((round(unit * 1.6, 1), WIDTH), 38.8, "0")
    assert drawn.text == "5, interval 2 to 10, bound 0"


def test_labels_of_near_bounds_do_not_meet() -> None:
    near = picture(interval(0, 5, 10), Bounds(4.9, 5.1))
    far = picture(interval(0, 5, 10), Bounds(0, 10))
    one = picture(interval(0, 0, 0), Bounds(0, 0))
    assert near is not None
    assert far is not None
    assert one is not None
    assert [mark.anchor for mark in near.bounds] == ["end", "start"]
    assert [mark.anchor for mark in far.bounds] == ["middle", "middle"]
    assert [(mark.x, mark.label) for mark in one.bounds] == [(WIDTH / 2, "0")]


def test_what_cannot_be_drawn_is_not() -> None:
    assert picture(interval(-math.inf, 0, math.inf), Bounds(low=0)) is None
    assert picture(interval(0, 1, 2), Bounds()) is None
    assert picture(interval(-1.7e308, 0, 1.7e308), Bounds(low=0)) is None
