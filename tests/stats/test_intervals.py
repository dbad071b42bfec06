"""Intervals against textbook values and by simulation."""

import math

import numpy as np
import pytest

from nfrepro.stats.intervals import mean_interval


def test_textbook_value() -> None:
    # Mean 2, standard deviation 1, n = 3: t(0.975, 2) = 4.302653.
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2.0
    assert interval.high - interval.mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert interval.mean - interval.low == pytest.approx(interval.high - interval.mean)
    assert (interval.n, interval.method) == (3, "95 % Student t interval over seeds")
    assert str(interval) == "2.00 ± 2.48"


def test_it_covers_the_true_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    samples = generator.normal(5.0, 2.0, size=(4000, 3))
    covered = [(i := mean_interval(list(sample))).low <= 5.0 <= i.high for sample in samples]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)


def test_small_n_has_no_interval_and_says_so() -> None:
    assert str(mean_interval([4.0])) == "4.00 (n = 1, no interval)"
    assert math.isnan(mean_interval([4.0]).low)
    assert str(mean_interval([])) == "n = 0"


def test_infinite_values_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval([1.0, math.nan])


@pytest.mark.parametrize(
    ("values", "shown"), [((-0.0004, 0.0001), "0.000 ± 0.003"), ((-0.0004,), "0.000 (n = 1, no interval)")]
)
def test_a_number_that_rounds_to_zero_has_no_sign(values: tuple[float, ...], shown: str) -> None:
    assert mean_interval(values).text(3) == shown
