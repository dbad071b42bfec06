"""Intervals of a proportion, as the accuracy on a test set or the share of runs that collapse."""

from scipy import stats

from nfrepro.stats.intervals import Interval


def wilson_interval(hits: int, n: int, level: float = 0.95) -> Interval:
    """`hits` of `n` in percent, with Wilson's score interval (Wilson 1927): inside 0..100 even at 0 or `n` hits.

    Its source of chance is the choice of the `n` images alone, not the training. Raises `ValueError` for counts that
    are none.
    """
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"{hits} hits of {n} are no proportion")
    found = stats.binomtest(hits, n).proportion_ci(level, method="wilson")
    low, high = 100 * float(found.low), 100 * float(found.high)
    return Interval(100 * hits / n, low, high, n, f"{100 * level:g} % Wilson score interval over images")


def exact_interval(hits: int, n: int, level: float = 0.95) -> Interval:
    """`hits` of `n` runs in percent, with the exact interval of Clopper and Pearson (1934), which few runs need.

    Covers at least as often as it says, whatever `n`. Raises `ValueError` for counts that are none.
    """
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"{hits} hits of {n} are no proportion")
    low, high = clopper_pearson(hits, n, level)
    return Interval(100 * hits / n, 100 * low, 100 * high, n, f"{100 * level:g} % exact binomial interval over seeds")


def clopper_pearson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share (Clopper and Pearson 1934), as shares: it holds at least as often as `level`."""
    found = stats.binomtest(hits, n).proportion_ci(level, method="exact")
    return float(found.low), float(found.high)
