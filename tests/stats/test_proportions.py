"""Wilson's interval against scipy's own and against its definition."""

import pytest
from scipy import stats

from nfrepro.stats.proportions import exact_interval, wilson_interval


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 10), (5, 15), (10, 10), (38_400, 50_000)])
def test_it_equals_scipys(hits: int, n: int) -> None:
    ours, theirs = wilson_interval(hits, n), stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert ours.mean == pytest.approx(100 * hits / n)
    assert (ours.low, ours.high) == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=1e-9)
    assert (ours.n, ours.method) == (n, "95 % Wilson score interval over images")


@pytest.mark.parametrize(("hits", "n"), [(-1, 10), (11, 10), (0, 0)])
def test_impossible_counts_are_refused(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        wilson_interval(hits, n)


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (2, 5), (5, 5), (1, 1), (7, 300)])
def test_the_exact_interval_equals_scipys(hits: int, n: int) -> None:
    ours, theirs = exact_interval(hits, n), stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
    assert (ours.low, ours.high) == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=1e-9)
    assert (ours.mean, ours.method) == (100 * hits / n, "95 % exact binomial interval over seeds")


@pytest.mark.parametrize(("hits", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_of_runs_are_refused(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        exact_interval(hits, n)
