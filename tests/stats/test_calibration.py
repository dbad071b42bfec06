"""The whole procedure on simulated seeds: lists of claims are wrong as often as they may be, and right as computed."""

import math

import pytest

from nfrepro.bench.calibration import KINDS, RATE, computed, errors, power

TRIALS, CLAIMS = 400, 20
# A mean of eight values knows nothing of a rare late seed that none of them shows: docs/claims.md says so.
HELD = [kind for kind in KINDS if "one arm only" not in kind.name]


@pytest.mark.parametrize("kind", HELD, ids=lambda kind: kind.name)
def test_a_list_of_claims_that_are_just_false_is_wrong_no_more_often_than_it_may(kind: object) -> None:
    for found in errors(kind, TRIALS, CLAIMS, seed=21):  # type: ignore[arg-type]
        assert found <= RATE + 3 * math.sqrt(RATE * (1 - RATE) / TRIALS)


@pytest.mark.parametrize("effect", [1.5, 2.0, 3.0])
def test_power_is_as_computed_or_a_little_less_by_the_permutation_test(effect: float) -> None:
    assert power(effect, 1000, RATE) == pytest.approx(computed(effect, RATE), abs=0.06)
