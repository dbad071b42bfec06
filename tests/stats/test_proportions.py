"""Intervals of a proportion against their definitions."""

import math
from statistics import NormalDist

import pytest

from nfrepro.stats.proportions import exact_interval, wilson_interval


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 10), (5, 15), (10, 10), (38_400, 50_000)])
def test_its_ends_are_the_shares_that_the_score_test_just_accepts(hits: int, n: int, level: float) -> None:
    found = wilson_interval(hits, n, level)
    assert found.mean == pytest.approx(100 * hits / n)
    assert (found.n, found.method) == (n, f"{100 * level:g} % Wilson score interval over images")
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (hits + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * math.sqrt(hits * (n - hits) / n + z**2 / 4)
    assert (found.low, found.high) == pytest.approx((100 * (centre - half), 100 * (centre + half)), abs=1e-9)
    for share in (found.low / 100, found.high / 100):
        if 1e-9 < share < 1 - 1e-9:
            assert abs(hits / n - share) == pytest.approx(z * math.sqrt(share * (1 - share) / n), rel=1e-6)


@pytest.mark.parametrize(("hits", "n"), [(-1, 10), (11, 10), (0, 0)])
def test_impossible_counts_are_refused(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="not a proportion"):
        wilson_interval(hits, n)


def at_most(hits: int, n: int, share: float) -> float:
    """The probability of at most so many hits, summed term by term."""
    return sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(hits + 1))


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (2, 5), (5, 5), (1, 1), (7, 300)])
def test_beyond_the_exact_interval_the_counts_are_too_unlikely(hits: int, n: int) -> None:
    found = exact_interval(hits, n)
    assert (found.mean, found.method) == (100 * hits / n, "95 % exact binomial interval over seeds")
    assert found.high == 100 if hits == n else at_most(hits, n, found.high / 100) == pytest.approx(0.025, rel=1e-6)
    assert found.low == 0 if hits == 0 else 1 - at_most(hits - 1, n, found.low / 100) == pytest.approx(0.025, rel=1e-6)


@pytest.mark.parametrize(("hits", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_of_runs_are_refused(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="not a proportion"):
        exact_interval(hits, n)
