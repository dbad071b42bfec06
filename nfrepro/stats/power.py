"""Statistical power: what a given number of seeds can decide."""

import math

from scipy import special, stats

# A margin of this many standard deviations can be decided with eight seeds per arm, at the levels of looks 4, 6, 8.
_LEAST_MARGIN = 1.2
_SEEDS = 8


def power_of_mean_test(difference: float, sd: float, n: int, level: float, arms: int = 1) -> float:
    """The power of a one-sided t test of level `level` if the true mean is `difference` beyond the bound.

    There are `n` seeds per arm, whose values have standard deviation `sd`; two arms are independent. Uses the
    noncentral t.
    """
    freedom, error = arms * (n - 1), sd * math.sqrt(arms / n)
    critical = -float(special.stdtrit(freedom, level))
    return float(stats.nct.sf(critical, freedom, difference / error))


def least_margin(sd: float, n: int) -> float:
    """The smallest margin that `n` seeds per arm can decide."""
    return _LEAST_MARGIN * sd / math.sqrt(n / _SEEDS)
