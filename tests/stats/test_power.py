"""Power of a t test against simulation, and the least margin that a number of seeds can decide."""

import numpy as np
import pytest
from scipy import stats

from nfrepro.stats.power import least_margin, power_of_mean_test


@pytest.mark.parametrize(("arms", "difference", "n"), [(1, 1.0, 8), (2, 1.5, 8), (2, 2.0, 6)])
def test_power_is_how_often_a_t_test_rejects(arms: int, difference: float, n: int) -> None:
    generator, level, sd = np.random.default_rng(2), 0.0154, 0.7
    first = generator.normal(difference * sd, sd, (20_000, n))
    if arms == 1:
        p = stats.ttest_1samp(first, 0, axis=1, alternative="greater").pvalue
    else:
        p = stats.ttest_ind(first, generator.normal(0, sd, (20_000, n)), axis=1, alternative="greater").pvalue
    assert power_of_mean_test(difference * sd, sd, n, level, arms) == pytest.approx(np.mean(p <= level), abs=0.012)


def test_the_least_margin_shrinks_with_the_root_of_the_seeds() -> None:
    assert least_margin(1.0, 8) == 1.2
    assert least_margin(0.5, 32) == pytest.approx(0.3)
