"""Fully connected networks against their formula written out, and what they refuse."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nfrepro.models import create
from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.options import test_pixels as pixels_of
from nfrepro.models.registry import parse_options
from nfrepro.signal import propagation

KINDS = list(itertools.product(["plain", "residual"], ["none", "batch_norm", "scaled_ws"]))
every_kind = pytest.mark.parametrize(("connection", "normalization"), KINDS)


def network(connection: str, normalization: str, **options: Any) -> Any:
    torch.manual_seed(0)
    given = {"depth": 3, "width": 12, "pixels": 4, "num_classes": 5, "in_channels": 2, **options}
    return create("fully_connected", connection=connection, normalization=normalization, **given)


@every_kind
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_network_is_its_formula(connection: str, normalization: str, activation: str) -> None:
    alpha = 0.3 if connection == "residual" else 1.0
    model = network(connection, normalization, alpha=alpha, activation=activation).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    images = torch.randn(7, 2, 4, 4, dtype=torch.float64)
    gamma = ACTIVATIONS[activation].gamma("exact")  # type: ignore[index]

    def weights(part: Any, z: Tensor) -> Tensor:
        weight = part.weight[:, :, 0, 0]
        if normalization == "scaled_ws":
            weight = weight - weight.mean(1, keepdim=True)
            weight = weight / weight.square().sum(1, keepdim=True).sqrt() * part.gain[:, None]
        return z @ weight.T + (0.0 if part.bias is None else part.bias)

    x = weights(model.initial_conv, images.flatten(1))
    for number, layer in enumerate(model.stages[0]):
        z = x
        if normalization == "batch_norm":
            z = (z - z.mean(0)) / torch.sqrt(z.var(0, correction=0) + 1e-5) * layer.norm.weight + layer.norm.bias
        z = {"relu": torch.relu, "silu": lambda t: t * torch.sigmoid(t)}[activation](z)
        if normalization == "scaled_ws":
            z = gamma * z / (math.sqrt(1 + alpha**2 * number) if connection == "residual" else 1.0)
        z = weights(layer.conv, z)
        x = x + alpha * z if connection == "residual" else z
    torch.testing.assert_close(model(images), model.linear(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("connection", "normalization", "growth"),
    [
        ("plain", "none", 1.0),
        ("plain", "batch_norm", 1.0),
        ("plain", "scaled_ws", 1.0),
        ("residual", "none", 2.0**6),
        ("residual", "batch_norm", 1.0 + 6.0),
        ("residual", "scaled_ws", 1.0 + 6.0),
    ],
)
def test_mean_square_at_initialisation(connection: str, normalization: str, growth: float) -> None:
    model = network(connection, normalization, depth=6, width=500, pixels=8).train()
    with torch.no_grad():
        (features,) = model.forward_features(torch.randn(64, 2, 8, 8))
    assert features.square().mean().item() == pytest.approx(growth, rel=0.2)


def test_residual_networks_have_a_signal_propagation_plot() -> None:
    plot = propagation(network("residual", "scaled_ws", depth=4, width=300, alpha=1.0), torch.randn(64, 2, 4, 4))
    assert plot["block"].tolist() == [1, 2, 3, 4]
    assert plot["res_var"].tolist() == pytest.approx([1.0] * 4, rel=0.15)
    assert plot["avg_var"].tolist() == pytest.approx([2.0, 3.0, 4.0, 5.0], rel=0.15)


@every_kind
def test_only_batch_norm_lets_images_matter_to_each_other(connection: str, normalization: str) -> None:
    model = network(connection, normalization).double()
    images = torch.randn(6, 2, 4, 4, dtype=torch.float64)
    same = torch.allclose(model(images)[:3], model(images[:3]), rtol=1e-9)
    assert same == (normalization != "batch_norm")


@pytest.mark.parametrize("shape", [(3, 2, 5, 5), (3, 1, 4, 4), (3, 32)])
def test_other_images_are_refused_with_the_numbers(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images must be \[N, 2, 4, 4\], got \[3, "):
        network("plain", "none")(torch.zeros(shape))


def test_a_plain_network_has_no_alpha() -> None:
    with pytest.raises(ValueError, match=r"alpha 0\.5 scales a residual branch, but connection is plain"):
        create("fully_connected", alpha=0.5)


def test_it_is_tested_on_images_of_its_own_size() -> None:
    assert (pixels_of("fully_connected8", {}), pixels_of("fully_connected", {"pixels": 5})) == (28, 5)


def test_names() -> None:
    assert parse_options("fully_connected8", {}).label == "fully_connected8-plain-none"  # type: ignore[attr-defined]
    options = parse_options("fully_connected", {"connection": "residual", "normalization": "scaled_ws", "alpha": 0.2})
    assert options.label == "fully_connected16-residual-scaled_ws-alpha0.2"  # type: ignore[attr-defined]
