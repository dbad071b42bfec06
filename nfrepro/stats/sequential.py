"""Group-sequential tests: seeds are added until a claim is decided, with the error rate under control.

The error is spent over the looks by the O'Brien-Fleming-type function of Lan and DeMets (1983): almost nothing early,
nearly all of it at the end. Each look is tested at what is spent there (Bonferroni). That is exact for every test at
every level and sample size. The usual bounds, which use the correlation of normal statistics, are wider at the last
look (0.0219 instead of 0.0154 at looks 4, 6, 8 and 0.025), but 3 to 10 % too liberal for t tests of so few seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import special


@dataclass(frozen=True)
class Step:
    """The procedure's result for one hypothesis."""

    rejected: bool
    level: float  # one-sided, of the look that rejected it, else of its last look, else of its first
    look: int | None  # index of the look that rejected it
    rate: float  # its share of the rate of all hypotheses, split among its looks


def spending(rate: float, fraction: float) -> float:
    """The one-sided error, out of `rate` in total, that is spent when `fraction` of the seeds is there.

    It is 2 - 2 Phi(z / sqrt(fraction)), with z the 1 - rate / 2 quantile.
    """
    return float(2 * special.ndtr(special.ndtri(rate / 2) / np.sqrt(fraction)))


def nominal_levels(rate: float, looks: Sequence[int]) -> tuple[float, ...]:
    """The one-sided level of each look (numbers of seeds in rising order); they add up to `rate`."""
    spent = [0.0, *(spending(rate, n / looks[-1]) for n in looks[:-1]), rate]
    return tuple(after - before for before, after in pairwise(spent))


def conditional_power(p: float, fraction: float, final_level: float) -> float:
    """The probability that the last look rejects if the trend goes on, by the B-value of Lan and Wittes (1988).

    `p` is one-sided, at `fraction` (below 1) of the seeds.
    """
    z = special.ndtri(min(max(1 - p, 1e-300), 1 - 1e-16))
    drift = z / np.sqrt(fraction)
    critical = special.ndtri(1 - final_level)
    return float(special.ndtr((drift - critical) / np.sqrt(1 - fraction)))


def holm_with_looks(p_values: Sequence[Sequence[float]], looks: Sequence[Sequence[int]], rate: float) -> list[Step]:
    """Holm's procedure for hypotheses that are tested at several looks (Maurer and Bretz 2013).

    `p_values[i]` are those of hypothesis i at its looks so far, out of the planned `looks[i]`. Each of m open
    hypotheses gets rate / m. All hypotheses that have crossed their level at any look so far are rejected, and this is
    repeated until there are no more. It is the closed test of weighted Bonferroni tests, so the order in which data
    arrive does not matter, and a rejection is final. With one look each, it is Holm's procedure (1979). It is valid for
    a `rate` of at most 0.3, up to which the level of each look grows with its share of the rate.
    """
    steps: list[Step | None] = [None] * len(p_values)
    while open_ones := [index for index, step in enumerate(steps) if step is None]:
        found = {index: _look(p_values[index], looks[index], rate / len(open_ones)) for index in open_ones}
        crossed = {index: step for index, step in found.items() if step.rejected}
        for index, step in (crossed or found).items():
            steps[index] = step
    return [step for step in steps if step is not None]


def _look(p_values: Sequence[float], looks: Sequence[int], rate: float) -> Step:
    levels = nominal_levels(rate, looks)
    crossed = next((k for k, p in enumerate(p_values) if p <= levels[k]), None)
    shown = max(len(p_values) - 1, 0) if crossed is None else crossed
    return Step(crossed is not None, levels[shown], crossed, rate)
