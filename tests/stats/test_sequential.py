"""Looks: levels in closed form, and the procedure over hypotheses against the closed test by brute force."""

from collections.abc import Sequence
from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nfrepro.stats.sequential import conditional_power, holm_with_looks, nominal_levels, spending

LOOKS = (4, 6, 8)
P = st.floats(1e-9, 1.0)
COURSES = st.lists(st.lists(P, min_size=0, max_size=3), min_size=1, max_size=4)


def test_the_function_spends_little_at_first_and_all_at_the_end() -> None:
    # 2 - 2 Phi(2.2414 / sqrt(1/2)): Lan and DeMets's first function, one-sided at 0.025.
    assert spending(0.025, 0.5) == pytest.approx(2 * stats.norm.sf(stats.norm.isf(0.0125) / 0.5**0.5))
    assert spending(0.025, 0.5) == pytest.approx(0.00153, abs=1e-5)
    assert spending(0.025, 1.0) == pytest.approx(0.025)


@given(st.floats(1e-6, 0.1), st.lists(st.integers(2, 30), min_size=1, max_size=5, unique=True).map(sorted))
def test_levels_of_looks_add_up_to_the_rate(rate: float, looks: list[int]) -> None:
    levels = nominal_levels(rate, looks)
    assert len(levels) == len(looks)
    assert sum(levels) == pytest.approx(rate)
    assert all(level >= 0 for level in levels)


def test_a_larger_rate_gives_each_look_a_higher_level() -> None:
    """Without that a claim could lose by what another one leaves it; it holds up to a rate of a third."""
    levels = np.array([nominal_levels(rate, LOOKS) for rate in np.linspace(1e-6, 0.3, 500)])
    assert (np.diff(levels, axis=0) > 0).all()


def test_one_look_has_the_whole_rate() -> None:
    assert nominal_levels(0.025, (5,)) == (0.025,)


def test_holm_by_hand() -> None:
    # 0.05 / 4 = 0.0125, then 0.0167, then 0.025 fails, and with it all that follow (Holm 1979).
    steps = holm_with_looks([[0.03], [0.01], [0.04], [0.015]], [(1,)] * 4, 0.05)
    assert [step.rejected for step in steps] == [False, True, False, True]
    assert [step.level for step in steps] == pytest.approx([0.025, 0.0125, 0.025, 0.05 / 3])
    assert holm_with_looks([], [], 0.05) == []


def closed_test(courses: Sequence[Sequence[float]], rate: float) -> list[bool]:
    """A hypothesis is rejected if every intersection that it is in is, by Bonferroni over its members and looks."""
    indices = range(len(courses))
    subsets = list(chain.from_iterable(combinations(indices, size) for size in range(1, len(courses) + 1)))

    def rejects(subset: tuple[int, ...]) -> bool:
        levels = nominal_levels(rate / len(subset), LOOKS)
        return any(p <= level for i in subset for p, level in zip(courses[i], levels, strict=False))

    return [all(rejects(subset) for subset in subsets if i in subset) for i in indices]


@settings(max_examples=200)
@given(COURSES, st.sampled_from([0.025, 0.1, 0.3]))
def test_it_is_the_closed_test(courses: list[list[float]], rate: float) -> None:
    steps = holm_with_looks(courses, [LOOKS] * len(courses), rate)
    assert [step.rejected for step in steps] == closed_test(courses, rate)


@given(COURSES, st.integers(0, 3), P)
def test_another_look_takes_no_verdict_back(courses: list[list[float]], which: int, p: float) -> None:
    more = [list(course) for course in courses]
    if len(more[which % len(more)]) < len(LOOKS):
        more[which % len(more)].append(p)
    before, after = (holm_with_looks(of, [LOOKS] * len(of), 0.3) for of in (courses, more))
    assert all(later.rejected for step, later in zip(before, after, strict=True) if step.rejected)


def test_a_boundary_that_was_crossed_stays_crossed() -> None:
    (step,) = holm_with_looks([[0.001, 0.9, 0.9]], [LOOKS], 0.025)
    assert (step.rejected, step.look) == (True, 0)


def test_conditional_power_is_that_of_a_walk_that_goes_on_as_it_came() -> None:
    """By simulation of Brownian motion with the drift that was seen."""
    p, fraction, level = 0.05, 0.75, 0.0154
    value = stats.norm.isf(p) * fraction**0.5
    steps = np.random.default_rng(0).normal(value / fraction * (1 - fraction), (1 - fraction) ** 0.5, 200_000)
    simulated = np.mean(value + steps > stats.norm.isf(level))
    assert conditional_power(p, fraction, level) == pytest.approx(simulated, abs=0.005)
    assert conditional_power(0.9, 0.75, level) < 1e-6
    assert conditional_power(0.0, 0.75, level) == pytest.approx(1.0)
