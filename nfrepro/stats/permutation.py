"""A permutation test of the difference of two means, for few values that need not be normal."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

# All divisions of the values are used if there are at most this many, else this many random ones, always the same.
DIVISIONS = 20_000
# Statistics that differ by less are the same number computed twice.
_ROUNDING = 1e-9


def permutation_p(values: Sequence[float], others: Sequence[float], shift: float = 0.0) -> float:
    """The one-sided p-value of "the mean of `values` is at most that of `others` plus `shift`".

    Uses all divisions of the pooled values into two groups, or 20,000 random ones, with the studentized difference as
    statistic (Janssen 1997): exact if the two distributions differ only by a shift, and nearly so if their variances
    differ.
    """
    pooled = np.concatenate([np.asarray(values, float) - shift, np.asarray(others, float)])
    chosen = _divisions(len(pooled), len(values))
    statistic = _studentized(pooled, chosen, len(values))
    seen = statistic[0]  # the first division is the one that was observed
    as_far = statistic >= seen - _ROUNDING * max(1.0, abs(seen) if np.isfinite(seen) else 1.0)
    return float(np.mean(as_far))


def _studentized(pooled: NDArray[np.float64], chosen: NDArray[np.bool_], size: int) -> NDArray[np.float64]:
    """Welch's statistic of each division. Without any spread it is infinite, with the sign of the difference."""
    rest = len(pooled) - size
    total, squares = pooled.sum(), (pooled**2).sum()
    sums, square_sums = chosen @ pooled, chosen @ pooled**2
    means, other_means = sums / size, (total - sums) / rest
    spread = np.maximum(square_sums - size * means**2, 0) / (size * (size - 1))
    spread = spread + np.maximum(squares - square_sums - rest * other_means**2, 0) / (rest * (rest - 1))
    spread[spread <= _ROUNDING**2 * squares] = 0.0
    difference = means - other_means
    difference[np.abs(difference) <= _ROUNDING * np.sqrt(squares)] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic: NDArray[np.float64] = difference / np.sqrt(spread)
    statistic[difference == 0] = 0.0
    return statistic


@lru_cache(maxsize=32)
def _divisions(n: int, size: int) -> NDArray[np.bool_]:
    """Which of `n` values are in the first group, one row per division; in the first row, it holds the first `size`."""
    if comb(n, size) <= DIVISIONS:
        groups = np.array(list(combinations(range(n), size)))
    else:
        draws = np.random.default_rng(0).random((DIVISIONS, n)).argsort(axis=1)[:, :size]
        groups = np.concatenate([np.arange(size)[None], draws])
    chosen = np.zeros((len(groups), n), dtype=bool)
    np.put_along_axis(chosen, groups, True, axis=1)
    return chosen
