"""Where the division by beta acts: gamma g(x) / beta (the authors' code), or gamma g(x / beta) (the formula)."""

from typing import Any

import numpy as np
import pytest
import torch

from nfrepro.models import create
from nfrepro.models.description import describe
from nfrepro.models.folding import fold
from nfrepro.models.registry import parse_options
from nfrepro.signal import predict, propagation

FAMILIES: dict[str, dict[str, Any]] = {
    "nf_resnet": {"blocks": [2, 2], "width": 0.125, "alpha": 1.0, "stem": "small"},
    "nf_regnet_b0": {"width": 0.5, "alpha": 1.0},
    "nfnet_f0": {"width": 0.125, "group_width": 8, "alpha": 1.0},
}


def networks(name: str, **options: Any) -> list[Any]:
    """The same weights with beta behind the activation, and before it; no parameter at its initial value."""
    models = [create(name, num_classes=5, **FAMILIES[name], **options, beta_at=at) for at in ("activation", "input")]
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in models[0].parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    models[1].load_state_dict(models[0].state_dict())
    return [model.double().eval() for model in models]


@pytest.mark.parametrize("name", FAMILIES)
def test_it_makes_no_difference_to_activations_that_scale(name: str) -> None:
    by_activation, by_input = networks(name, activation="relu")
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(by_activation(x), by_input(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
def test_silu_takes_the_divided_input(name: str) -> None:
    by_activation, by_input = networks(name, activation="silu")
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    assert not torch.allclose(by_activation(x), by_input(x), rtol=1e-3)
    torch.testing.assert_close(fold(by_input)(x), by_input(x), rtol=1e-9, atol=1e-9)
    blocks = [[block for stage in model.stages for block in stage] for model in (by_activation, by_input)]
    some = 0
    for theirs, ours in zip(*blocks, strict=True):
        z = torch.randn(2, ours.conv0.in_channels, 8, 8, dtype=torch.float64)
        beta = theirs.beta
        some += beta > 1.0
        assert (ours.beta, ours.input_beta) == (1.0, beta)
        torch.testing.assert_close(ours.activated(z), torch.nn.functional.silu(z / beta))
    assert some > 0


def test_silu_keeps_the_variance_with_the_papers_formula_only() -> None:
    """At alpha 1 the signal grows to a variance of 9, where gamma g(x) / beta is no longer of unit variance."""
    found = {}
    for at in ("activation", "input"):
        options = {"blocks": [8], "width": 1.0, "alpha": 1.0, "activation": "silu", "stem": "small", "beta_at": at}
        torch.manual_seed(0)
        model = create("nf_resnet", skipinit_gain=None, num_classes=5, **options)
        measured = propagation(model, torch.randn(4, 3, 32, 32))
        described = describe(parse_options("nf_resnet", {**options, "skipinit_gain": None}), pixels=32)
        predicted = predict(described)
        np.testing.assert_allclose(measured["res_var"], predicted["res_var"], rtol=0.1)
        found[at] = float(measured["res_var"].iloc[-1])
    assert abs(found["input"] - 1.0) < 0.15
    assert found["activation"] - 1.0 > 0.2
