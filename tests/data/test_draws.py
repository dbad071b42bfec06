"""Random numbers of rows: functions of position and copy alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nfrepro.data.draws import uniform

# What the stream gave when it was first drawn; results already published depend on it.
GOLDEN = [[0.5275425816407535, 0.24680900680491957], [0.19338773453594782, 0.837099187516813]]


@given(st.integers(1, 4), st.integers(1, 9), st.integers(0, 40), st.integers(0, 20))
def test_a_part_is_part_of_the_whole(copies: int, count: int, start: int, length: int) -> None:
    whole = uniform("x", 3, 5, copies, range(61), count)
    part = uniform("x", 3, 5, copies, range(start, start + length), count)
    assert part.shape == (length, count)
    assert np.array_equal(part, whole[start : start + length])


def test_a_copy_has_the_numbers_of_its_position_whatever_the_number_of_copies() -> None:
    one, three = (uniform("x", 0, 0, copies, range(10 * copies), 5) for copies in (1, 3))
    assert np.array_equal(three[::3], one)
    assert len(np.unique(three)) == three.size


def test_streams_seeds_and_epochs_differ() -> None:
    drawn = [uniform(*key, 1, range(50), 4) for key in (("x", 0, 0), ("y", 0, 0), ("x", 1, 0), ("x", 0, 1))]
    assert len(np.unique(drawn)) == 4 * 200


def test_uniform() -> None:
    numbers = uniform("x", 0, 0, 2, range(20_000), 5)
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(numbers.T) - np.eye(5)).max() < 0.03
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.03


def test_never_changes() -> None:
    assert uniform("x", 0, 0, 1, range(7, 9), 2).tolist() == GOLDEN
