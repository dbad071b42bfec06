"""Wilson's interval against scipy's own and against its definition."""

import pytest
from scipy import stats

from nfrepro.evidence.proportions import wilson_interval


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
