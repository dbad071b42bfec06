"""Task `network_properties`: networks that have each property, and networks that do not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from nfrepro.models import create
from nfrepro.models.options import NFResNetOptions
from nfrepro.tasks.network_properties import multiply_adds, run
from nfrepro.tasks.options import NetworkPropertiesTask
from nfrepro.training.context import RunContext

SMALL = {"blocks": [2, 2], "width": 0.125}


def final(tmp_path: Path, seed: int = 0, **model: Any) -> dict[str, Any]:
    options = NetworkPropertiesTask.model_validate(
        {"seed": seed, "model": {**SMALL, **model}, "pixels": 32, "batch": 3}
    )
    outcome = run(options, RunContext(tmp_path, "cpu"))
    assert list(tmp_path.iterdir()) == []
    return dict(json.loads(json.dumps(outcome.final, allow_nan=False)))


def test_nf_resnet_has_them_all(tmp_path: Path) -> None:
    found = final(tmp_path, name="nf_resnet", stem="small")
    assert found["batch_dependence"] < 1e-5
    assert found["train_test_gap"] < 1e-5
    assert 0 <= found["folding_error"] < 1e-5
    assert found["identity_error"] == 0
    model = create("nf_resnet", stem="small", **SMALL)
    assert found["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert found["multiply_adds_pixels"] == 224


def test_bn_resnet_has_none(tmp_path: Path) -> None:
    found = final(tmp_path, name="bn_resnet")
    assert found["batch_dependence"] > 1e-2
    assert found["train_test_gap"] > 1e-2
    assert found["folding_error"] is None
    assert found["identity_error"] is None


@pytest.mark.parametrize("gain", [1.0, 0.001])
def test_blocks_with_another_scalar_are_no_identity(tmp_path: Path, gain: float) -> None:
    assert final(tmp_path, name="nf_resnet", skipinit_gain=gain)["identity_error"] > gain * 0.1


def test_without_scalars_there_is_nothing_to_be_the_identity(tmp_path: Path) -> None:
    found = final(tmp_path, name="nf_resnet", skipinit_gain=None)
    assert found["identity_error"] is None
    assert found["folding_error"] < 1e-5


def test_skipinit_resnet_begins_as_the_identity(tmp_path: Path) -> None:
    found = final(tmp_path, name="skipinit_resnet")
    assert found["identity_error"] == 0
    assert found["batch_dependence"] < 1e-5
    assert found["folding_error"] is None


def test_dropout_is_a_gap_between_training_and_test(tmp_path: Path) -> None:
    assert final(tmp_path, name="nf_resnet", dropout=0.5)["train_test_gap"] > 1e-2


def test_a_fold_that_forgets_something_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nfrepro.tasks import network_properties

    fold = network_properties.fold

    def careless(model: Any) -> Any:
        folded = fold(model)
        with torch.no_grad():
            folded.initial_conv.weight *= 1.01
        return folded

    monkeypatch.setattr(network_properties, "fold", careless)
    assert final(tmp_path, name="nf_resnet")["folding_error"] > 1e-4


def test_multiply_adds_of_the_papers_network() -> None:
    # As tests/models/test_multiply_adds.py has it by hand; torchvision publishes 4.089.
    assert multiply_adds(NFResNetOptions.model_validate({"name": "nf_resnet", "depth": 50}), 224) == 4_089_184_256


def test_multiply_adds_by_hand(tmp_path: Path) -> None:
    # Width 1/8: stem 8 wide, blocks 8-32 at 56 pixels and 16-64 at 28 of 224.
    stem = 112**2 * 8 * 3 * 49
    first = 56**2 * (8 * 8 + 9 * 8 * 8 + 8 * 32 + 8 * 32) + 56**2 * (32 * 8 + 9 * 8 * 8 + 8 * 32)
    second = 56**2 * 32 * 16 + 28**2 * (9 * 16 * 16 + 16 * 64 + 32 * 64) + 28**2 * (64 * 16 + 9 * 16 * 16 + 16 * 64)
    found = final(tmp_path, name="nf_resnet")
    assert found["multiply_adds"] == pytest.approx((stem + first + second + 64 * 1000) / 1e9, rel=1e-9)


def test_seeds(tmp_path: Path) -> None:
    one, again, other = (final(tmp_path, name="bn_resnet", seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one["batch_dependence"] != other["batch_dependence"]


@pytest.mark.parametrize(("variant", "printed"), [("b0", 0.44), ("b2", 1.09), ("b5", 10.48)])
def test_the_figure_counts_at_test_size_and_halves_odd_maps(variant: str, printed: float, tmp_path: Path) -> None:
    """Read off figure 3, to a percent; sides of maps of B2 and B5 are odd at some stage."""
    task = NetworkPropertiesTask.model_validate({"model": {"name": "nf_regnet", "variant": variant}, "pixels": 32})
    found = run(task, RunContext(tmp_path, "cpu")).final
    assert found["multiply_adds_unrounded"] == pytest.approx(printed, rel=0.01)
    rounding = found["multiply_adds"] / found["multiply_adds_unrounded"] - 1
    assert rounding > 0.02 if variant in ("b2", "b5") else rounding == pytest.approx(0, abs=1e-9)
    assert found["multiply_adds_at_train_pixels"] < 0.85 * printed


@pytest.mark.parametrize("model", [{"name": "torchvision:resnet18"}, {"name": "fully_connected", "pixels": 8}])
def test_networks_without_stages_of_convolutions_are_refused(model: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="has no stages of convolutions to check"):
        NetworkPropertiesTask.model_validate({"model": model})
