"""Task `gain` against closed forms."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from nfrepro.tasks.gain import run
from nfrepro.tasks.options import GainTask
from nfrepro.training.context import RunContext

PI = math.pi
SLOPE = 0.01  # of leaky ReLU
# Mean and variance of g(z), z ~ N(0, 1).
CLOSED_FORMS = {
    "identity": (0.0, 1.0),
    "relu": (1 / math.sqrt(2 * PI), (1 - 1 / PI) / 2),
    "leaky_relu": ((1 - SLOPE) / math.sqrt(2 * PI), (1 + SLOPE**2) / 2 - (1 - SLOPE) ** 2 / (2 * PI)),
}


def final(tmp_path: Path, **options: Any) -> dict[str, Any]:
    outcome = run(GainTask.model_validate({"vectors": 4, **options}), RunContext(tmp_path, "cpu"))
    assert outcome.status == "completed"
    assert list(tmp_path.iterdir()) == []
    return dict(json.loads(json.dumps(outcome.final, allow_nan=False)))


@pytest.mark.parametrize("activation", CLOSED_FORMS)
def test_exact_values_are_those_of_closed_forms(tmp_path: Path, activation: str) -> None:
    mean, variance = CLOSED_FORMS[activation]
    found = final(tmp_path, activation=activation)
    assert found["mean"] == pytest.approx(mean, abs=1e-12)
    assert found["variance"] == pytest.approx(variance, rel=1e-12)
    assert found["std"] == pytest.approx(math.sqrt(variance), rel=1e-12)
    assert found["gamma"] == pytest.approx(1 / math.sqrt(variance), rel=1e-12)
    assert found["published_error"] == pytest.approx(abs(found["gamma_published"] * math.sqrt(variance) - 1), abs=1e-12)
    assert found["sampled_error"] == pytest.approx(abs(found["gamma_sampled"] * math.sqrt(variance) - 1), abs=1e-12)


@pytest.mark.parametrize(("activation", "mean"), [("sigmoid", 0.5), ("tanh", 0.0), ("soft_sign", 0.0)])
def test_means_known_by_symmetry(tmp_path: Path, activation: str, mean: float) -> None:
    assert final(tmp_path, activation=activation)["mean"] == pytest.approx(mean, abs=1e-12)


def test_log_sigmoid_is_softplus_mirrored(tmp_path: Path) -> None:
    one, other = (final(tmp_path, activation=name) for name in ("log_sigmoid", "softplus"))
    assert one["mean"] == pytest.approx(-other["mean"], rel=1e-12)
    assert one["gamma"] == pytest.approx(other["gamma"], rel=1e-12)


def test_where_channels_mix_one_number_has_no_moments(tmp_path: Path) -> None:
    glu, log_softmax = (final(tmp_path, activation=name, vectors=256) for name in ("glu", "log_softmax"))
    for found in (glu, log_softmax):
        assert (found["mean"], found["variance"], found["std"]) == (None, None, None)
    # Var(a sigmoid(b)) = E sigmoid(b)^2: 0.29338 by the trapezoidal rule.
    step = 0.001
    second = sum(math.exp(-z * z / 2) / (1 + math.exp(-z)) ** 2 for z in (k * step for k in range(-9000, 9001)))
    assert glu["gamma"] == pytest.approx((second * step / math.sqrt(2 * PI)) ** -0.5, rel=1e-9)
    assert log_softmax["gamma"] == 1.0
    assert glu["sampled_error"] < 0.02
    assert log_softmax["sampled_error"] < 0.02


def test_sampling_errors_shrink_with_the_root_of_the_vectors(tmp_path: Path) -> None:
    def root_mean_square(vectors: int) -> float:
        errors = [final(tmp_path, activation="relu", vectors=vectors, seed=seed)["sampled_error"] for seed in range(12)]
        return math.sqrt(sum(error**2 for error in errors) / len(errors))

    few, many = root_mean_square(2), root_mean_square(512)
    assert 6 < few / many < 43  # 16 expected
    # The variance of z^2-like numbers over 512 * 256 draws: an error of about 0.2 %, half of that in gamma.
    assert many < 0.004


def test_the_seed_matters_to_sampling_only(tmp_path: Path) -> None:
    one, again, other = (final(tmp_path, activation="silu", seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one["gamma_sampled"] != other["gamma_sampled"]
    assert one["gamma"] == other["gamma"]


def test_the_sampling_error_is_of_the_size_of_its_standard_error(tmp_path: Path) -> None:
    """Its square is 1 on average; a mean of 40 squares has a deviation of 0.22 about it."""
    found = [final(tmp_path, activation="silu", vectors=64, seed=seed) for seed in range(40)]
    squares = [of["sampled_error_in_standard_errors"] ** 2 for of in found]
    assert 0.4 < sum(squares) / 40 < 2.0
    single = final(tmp_path, activation="silu", vectors=1)
    assert single["sampled_error_in_standard_errors"] is None
