"""Task `layer_moments` against closed forms of its own: what is expected over weights too."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from nfrepro.tasks import layer_moments
from nfrepro.tasks.options import LayerMomentsTask
from nfrepro.training.context import RunContext

# Of ReLU: mu_g^2 and sigma_g^2.
SQUARED_MEAN, VARIANCE = 1 / (2 * math.pi), 0.5 - 1 / (2 * math.pi)


def final(tmp_path: Path, **options: Any) -> dict[str, float]:
    config = {"fan_in": 32, "fan_out": 64, "samples": 20000, **options}
    outcome = layer_moments.run(LayerMomentsTask.model_validate(config), RunContext(tmp_path, "cpu"))
    assert list(tmp_path.iterdir()) == []
    return dict(json.loads(json.dumps(outcome.final, allow_nan=False)))


@pytest.mark.parametrize("weight_mean", [0.0, 0.5, -1.0])
@pytest.mark.parametrize("weight_variance", [2.0, 0.5])
def test_closed_forms_over_weights(tmp_path: Path, weight_mean: float, weight_variance: float) -> None:
    # w = s (u + m), s^2 = v / N: E (sum w)^2 = v (1 + N m^2), and sum E w^2 = v (1 + m^2).
    found = final(tmp_path, weight_mean=weight_mean, weight_variance=weight_variance, fan_out=8192, samples=2)
    expected_mean = SQUARED_MEAN * weight_variance * (1 + 32 * weight_mean**2)
    expected_variance = VARIANCE * weight_variance * (1 + weight_mean**2)
    # Of 8192 squares, the relative deviation of the mean is at most sqrt(2 / 8192) = 1.6 %.
    assert found["expected_mean_squared_mean"] == pytest.approx(expected_mean, rel=0.06)
    assert found["expected_mean_variance"] == pytest.approx(expected_variance, rel=0.01)


@pytest.mark.parametrize("activation", ["relu", "silu", "tanh", "identity"])
@pytest.mark.parametrize("weights", ["plain", "scaled_ws"])
def test_monte_carlo_agrees_within_its_error(tmp_path: Path, activation: str, weights: str) -> None:
    found = final(tmp_path, activation=activation, weights=weights, weight_mean=0.3)
    # In units of a deviation, a mean over 20000 draws is off by 0.0071 (RMS over outputs: hardly spread).
    assert 0.3 / math.sqrt(20000) < found["mean_error"] < 2 / math.sqrt(20000)
    assert found["variance_error"] < 0.03
    assert found["mean_variance"] == pytest.approx(found["expected_mean_variance"], rel=0.03)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_scaled_standardization_gives_mean_0_and_variance_1(tmp_path: Path, activation: str) -> None:
    found = final(tmp_path, activation=activation, weights="scaled_ws", weight_mean=0.5)
    assert found["expected_mean_squared_mean"] < 1e-24
    assert found["expected_mean_variance"] == pytest.approx(1.0, rel=1e-9)
    assert found["mean_variance"] == pytest.approx(1.0, rel=0.03)
    assert found["largest_absolute_mean"] < 6 / math.sqrt(20000)


def test_the_weights_mean_shifts_plain_outputs_only(tmp_path: Path) -> None:
    plain, shifted = (final(tmp_path, weight_mean=mean) for mean in (0.0, 1.0))
    # sqrt(v N) m mu_g = sqrt(2 * 32 / (2 pi)) = 3.2 on top of values of about 0.6.
    assert shifted["mean_squared_mean"] > 10 * plain["mean_squared_mean"]
    assert shifted["mean_squared_mean"] == pytest.approx(SQUARED_MEAN * 2 * 33, rel=0.2)
    centred, still = (final(tmp_path, weight_mean=mean, weights="scaled_ws") for mean in (0.0, 1.0))
    assert still["mean_variance"] == pytest.approx(centred["mean_variance"], rel=1e-9)
    assert still["largest_absolute_mean"] == pytest.approx(centred["largest_absolute_mean"], rel=1e-6)


@pytest.mark.parametrize("wrong", ["no mean", "no squared mean in the variance", "second moment of g"])
def test_a_wrong_closed_form_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    right = layer_moments._closed_forms

    def closed_forms(weight: Tensor, task: LayerMomentsTask) -> tuple[Tensor, Tensor]:
        mean, variance = right(weight, task)
        if wrong == "no mean":
            return torch.zeros_like(mean), variance
        if wrong == "no squared mean in the variance":
            return mean, weight.shape[1] * VARIANCE * weight.var(1, correction=0)
        return mean, variance / VARIANCE * 0.5

    fine = final(tmp_path, weight_mean=1.0)
    monkeypatch.setattr(layer_moments, "_closed_forms", closed_forms)
    found = final(tmp_path, weight_mean=1.0)
    error = "mean_error" if wrong == "no mean" else "variance_error"
    assert fine[error] < 0.03
    assert found[error] > 0.2


def test_chunks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = final(tmp_path, samples=1000)
    monkeypatch.setattr(layer_moments, "CHUNK", 77)
    assert final(tmp_path, samples=1000) == pytest.approx(whole, rel=1e-9)


def test_seeds(tmp_path: Path) -> None:
    one, again, other = (final(tmp_path, samples=100, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one["mean_variance"] != other["mean_variance"]


def test_an_activation_over_channels_is_refused() -> None:
    with pytest.raises(ValidationError, match="log_softmax acts over channels, and x has none"):
        LayerMomentsTask.model_validate({"activation": "log_softmax"})
