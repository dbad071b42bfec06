"""The worked example of docs/claims.md, and its table, by scipy alone."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

TEXT = " ".join((Path(__file__).parents[2] / "docs" / "claims.md").read_text(encoding="utf-8").split())
NF, FIXUP = (65.2, 64.4, 65.9, 64.8, 65.0, 65.5), (63.1, 63.8, 62.9, 64.0, 63.4, 63.2)


def spent(rate: float, fraction: float) -> float:
    return float(2 * stats.norm.sf(stats.norm.isf(rate / 2) / fraction**0.5))


def welch(n: int) -> tuple[float, float]:
    """t and one-sided p, at nine tenths of Welch's degrees of freedom."""
    found = stats.ttest_ind(NF[:n], FIXUP[:n], equal_var=False)
    return float(found.statistic), float(stats.t.sf(found.statistic, max(0.9 * found.df, n - 1)))


def test_the_example_is_right() -> None:
    rate = 0.025 / 10
    first, second, last = spent(rate, 4 / 8), spent(rate, 6 / 8) - spent(rate, 4 / 8), rate - spent(rate, 6 / 8)
    assert f"three looks: {first:.2g}, {second:.2g} and {last:.2g}" in TEXT
    (t4, p4), (t6, p6) = welch(4), welch(6)
    assert p4 > first
    assert p6 <= second
    assert f"t = {t4:.2f} and p = {p4:.2g} by Welch's test, which misses the first level" in TEXT
    assert f"t = {t6:.2f} and p = {p6:.2g}: below the second level" in TEXT
    for values in (NF[:4], FIXUP[:4], NF[4:], FIXUP[4:]):
        assert ", ".join(map(str, values)) in TEXT


def test_the_documented_error_rates_hold_but_for_the_case_that_is_explained() -> None:
    rows = re.findall(r"\| ([a-z][^|]*) \| ([\d.]+)% ± ([\d.]+)% \| ([\d.]+)% ± ([\d.]+)% \| 2\.5% \|", TEXT)
    assert len(rows) == 7
    for kind, supported, error, contradicted, other in rows:
        assert float(supported) <= 2.5 + 3 * max(float(error), 0.35), kind
        assert float(contradicted) <= 2.5 + 3 * max(float(other), 0.35) or "one arm only" in kind


def test_the_documented_power_is_that_of_the_noncentral_t() -> None:
    level = 0.025 - spent(0.025, 6 / 8)
    for effect in (1.0, 1.5, 2.0, 3.0):
        critical = stats.t.isf(level, 14)
        power = stats.nct.sf(critical, 14, effect * np.sqrt(8 / 2))
        (computed,) = re.findall(rf"\| {effect:g} \| [\d.]+% ± [\d.]+% \| ([\d.]+)% ", TEXT)
        assert float(computed) == pytest.approx(100 * power, abs=0.06)
