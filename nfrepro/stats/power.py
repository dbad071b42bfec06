"""Power: what a number of seeds can decide."""

import math

from scipy import special, stats

# A margin of that many standard deviations can be decided with eight seeds an arm, at the levels of looks 4, 6, 8.
_LEAST_MARGIN = 1.2
_SEEDS = 8


def power_of_mean_test(difference: float, sd: float, n: int, level: float, arms: int = 1) -> float:
    """The probability that a one-sided t test of level `level` rejects a mean that is `difference` beyond its bound.

    `n` seeds an arm, whose values have standard deviation `sd`; two arms share nothing. By the noncentral t.
    """
    freedom, error = arms * (n - 1), sd * math.sqrt(arms / n)
    critical = -float(special.stdtrit(freedom, level))
    return float(stats.nct.sf(critical, freedom, difference / error))


def least_margin(sd: float, n: int) -> float:
    """The least margin that `n` seeds an arm can decide."""
    return _LEAST_MARGIN * sd / math.sqrt(n / _SEEDS)
