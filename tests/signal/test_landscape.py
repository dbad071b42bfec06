"""Loss surfaces against closed forms, direct evaluation and finite differences in float64."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.models import create
from nfrepro.signal import Landscape, landscape, random_directions

SMALL = {"num_classes": 4, "in_channels": 1, "blocks": [2, 1], "width": 0.0625, "stem": "small"}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "bn": lambda: create("bn_resnet", **SMALL),
    "nf": lambda: create("nf_resnet", skipinit_gain=0.5, dropout=0.5, **SMALL),
    "sequential": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 4)),
}


def network(name: str) -> nn.Module:
    torch.manual_seed(2)
    model = NETWORKS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def images(count: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 1, 8, 8, generator=generator), torch.randint(4, (count,), generator=generator)


def moved(model: nn.Module, *along: tuple[float, dict[str, Tensor]]) -> nn.Module:
    """A copy in float64, in evaluation mode but for its BatchNorms."""
    model = copy.deepcopy(model).double().eval()
    for module in model.modules():
        module.train(isinstance(module, nn.BatchNorm2d))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            for length, direction in along:
                parameter += length * direction[name]
    return model


def loss_of(model: nn.Module) -> Tensor:
    x, labels = images()
    return F.cross_entropy(model(x.double()), labels)


# Directions


@pytest.mark.parametrize("name", NETWORKS)
def test_every_filter_has_the_norm_of_the_models_own(name: str) -> None:
    model = network(name)
    first, second = random_directions(model, 0)
    for key, weight in model.named_parameters():
        for direction in (first, second):
            assert direction[key].shape == weight.shape
            if weight.ndim < 2:  # biases, norms, SkipInit scalars
                assert not direction[key].any(), key
                continue
            for d, w in zip(direction[key], weight, strict=True):
                assert d.norm().item() == pytest.approx(w.norm().item(), rel=1e-5), key
        if weight.numel() > 8 and weight.ndim > 1:
            assert not torch.equal(first[key], second[key])


def test_directions_are_gaussian_before_they_are_scaled() -> None:
    """Angles between two of them, and of each with the weights, are those of independent directions."""
    model = nn.Linear(400, 200, bias=False)
    first, second = (direction["weight"] for direction in random_directions(model, 5))
    for one, other in ((first, second), (first, model.weight), (second, model.weight)):
        cosines = F.cosine_similarity(one, other, dim=1).detach().numpy() * math.sqrt(400)
        assert abs(cosines.mean()) < 4 / math.sqrt(200)
        assert cosines.std() == pytest.approx(1.0, abs=4 / math.sqrt(2 * 200))


def test_the_seed_alone_chooses_them() -> None:
    model, state = network("nf"), torch.get_rng_state()
    first = random_directions(model, 3)[0]
    assert all(torch.equal(first[key], value) for key, value in random_directions(model, 3)[0].items())
    other = random_directions(model, 4)[0]
    assert not torch.equal(first["linear.weight"], other["linear.weight"])
    assert torch.equal(torch.get_rng_state(), state)
    # The type of numbers and the order in memory choose nothing.
    double = random_directions(model, 3, dtype=torch.float64)[0]
    last = random_directions(copy.deepcopy(model).to(memory_format=torch.channels_last), 3)[0]
    for key, value in first.items():
        torch.testing.assert_close(double[key].float(), value)
        torch.testing.assert_close(last[key], value)


def test_vectors_move_along_themselves_on_request() -> None:
    model = network("bn")
    first, second = random_directions(model, 0, moves_vectors=True)
    for key, weight in model.named_parameters():
        if weight.ndim < 2:
            assert torch.equal(first[key], weight)
            assert torch.equal(second[key], weight)


def test_a_filter_of_zeros_does_not_move() -> None:
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight[1] = 0.0
    direction = random_directions(model, 0)[0]["weight"]
    assert direction[0].all()
    assert not direction[1].any()


# The surface


def test_a_quadratic_in_closed_form() -> None:
    model = nn.Linear(3, 4, bias=False).double()

    x = torch.eye(3, dtype=torch.float64)
    # The outputs for the unit vectors are the weights.
    found = landscape(model, lambda out, _: 0.5 * out.square().sum(), (x, x), side=5, extent=2.0, seed=7)
    first, second = (direction["weight"] for direction in random_directions(model, 7))
    assert found.coordinates.tolist() == [-2.0, -1.0, 0.0, 1.0, 2.0]
    for i, a in enumerate(found.coordinates):
        for j, b in enumerate(found.coordinates):
            expected = 0.5 * (model.weight + a * first + b * second).square().sum()
            assert float(found.losses[i, j]) == pytest.approx(expected.item(), rel=1e-12)
    assert found.losses.dtype == torch.float64


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_against_copies_with_moved_weights(name: str) -> None:
    model = network(name)
    found = landscape(model, F.cross_entropy, images(), side=3, seed=1, dtype=torch.float64)
    first, second = random_directions(model, 1, dtype=torch.float64)
    for i, a in enumerate((-1.0, 0.0, 1.0)):
        for j, b in enumerate((-1.0, 0.0, 1.0)):
            expected = loss_of(moved(model, (a, first), (b, second))).item()
            assert float(found.losses[i, j]) == pytest.approx(expected, rel=1e-10), (a, b)
    single = landscape(model, F.cross_entropy, images(), side=3, seed=1)
    torch.testing.assert_close(single.losses, found.losses, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", ["bn_resnet", "nf_resnet"])
def test_slopes_in_the_middle_are_directional_derivatives(family: str) -> None:
    torch.manual_seed(2)
    model, short = create(family, activation="silu", **SMALL), 1e-5  # ReLU has kinks
    model.linear.weight.data.normal_()
    found = landscape(model, F.cross_entropy, images(), side=3, extent=short, dtype=torch.float64).losses
    at = moved(model)
    gradients = torch.autograd.grad(loss_of(at), list(at.parameters()))
    slopes = [
        sum(float((g * d).sum()) for g, d in zip(gradients, direction.values(), strict=True))
        for direction in random_directions(model, 0, dtype=torch.float64)
    ]
    assert float(found[2, 1] - found[0, 1]) / (2 * short) == pytest.approx(slopes[0], rel=1e-7)
    assert float(found[1, 2] - found[1, 0]) / (2 * short) == pytest.approx(slopes[1], rel=1e-7)
    assert slopes[0] != pytest.approx(slopes[1], rel=1e-2)


def test_the_middle_is_the_model_itself_to_the_bit() -> None:
    model, batch = network("nf"), images()
    found = landscape(model, F.cross_entropy, batch, side=3)
    with torch.no_grad():
        assert float(found.losses[1, 1]) == float(F.cross_entropy(copy.deepcopy(model).eval()(batch[0]), batch[1]))


def test_statistics_of_the_batch_or_the_running_ones() -> None:
    model, batch = network("bn"), images()
    for layer in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        layer.running_mean.fill_(0.3)
        layer.running_var.fill_(2.0)
    running = landscape(model, F.cross_entropy, batch, side=3, batch_statistics=False, dtype=torch.float64)
    first, second = random_directions(model, 0, dtype=torch.float64)
    expected = loss_of(moved(model, (1.0, first), (-1.0, second)).eval()).item()
    assert float(running.losses[2, 0]) == pytest.approx(expected, rel=1e-10)
    own = landscape(model, F.cross_entropy, batch, side=3, dtype=torch.float64)
    assert float(own.losses[2, 0]) != pytest.approx(expected, rel=1e-3)


def test_a_scale_that_the_loss_does_not_see_is_not_on_the_surface() -> None:
    """This is what filter normalization is for: weights behind a norm have no size of their own."""
    model = nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3, eps=1e-30), nn.Flatten()).double()
    x, labels = images()
    batch = x.double(), labels
    before = landscape(model, F.cross_entropy, batch, side=3)
    with torch.no_grad():
        model[0].weight *= torch.tensor([0.1, 1.0, 30.0], dtype=torch.float64).view(3, 1, 1, 1)
    torch.testing.assert_close(landscape(model, F.cross_entropy, batch, side=3).losses, before.losses)


def test_losses_that_are_not_finite_are_results() -> None:
    model = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(1.0)
    one = torch.ones(1, 1, dtype=torch.float64)
    # One number has the direction 1 or -1 times itself: at the corners it is 3, 1, 1 and -1, of which log is no number.
    found = landscape(model, lambda out, _: out.log().sum(), (one, one), side=3)
    values = found.losses.flatten().tolist()
    assert sum(math.isnan(value) for value in values) == 1
    assert sum(math.isinf(value) for value in values) == 2
    assert found.rise == 0.0  # the median of -inf, -inf, 0, 0, 0, log 2, log 2, log 3, inf


def test_rise() -> None:
    losses = torch.tensor([[5.0, 6.0, 7.0], [3.0, 1.0, 4.0], [9.0, math.nan, math.inf]], dtype=torch.float64)
    surface = Landscape(torch.tensor([-1.0, 0.0, 1.0]), losses)
    assert surface.rise == np.median([5, 6, 7, 3, 1, 4, 9, np.inf, np.inf]) - 1.0
    assert Landscape(surface.coordinates, torch.where(losses > 1, math.nan, losses)).rise == math.inf


# The model afterwards, and bad input


@pytest.mark.parametrize("name", NETWORKS)
def test_the_model_is_left_as_it_was(name: str) -> None:
    model = network(name).train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    parameters = [id(parameter) for parameter in model.parameters()]
    random = torch.get_rng_state()
    found = landscape(model, F.cross_entropy, images(), side=3)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [id(parameter) for parameter in model.parameters()] == parameters
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
    torch.testing.assert_close(landscape(model, F.cross_entropy, images(), side=3).losses, found.losses)


def test_frozen_models_have_a_surface_too() -> None:
    model = network("sequential")
    expected = landscape(model, F.cross_entropy, images(), side=3).losses
    frozen = landscape(model.requires_grad_(False), F.cross_entropy, images(), side=3).losses
    torch.testing.assert_close(frozen, expected)  # without gradients torch may take other kernels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": 4}, "side must be odd and at least 3, so that the model is in the middle, got 4"),
        ({"side": 1}, "side must be odd and at least 3"),
        ({"extent": 0.0}, "extent must be positive and finite, got 0"),
        ({"extent": math.nan}, "extent must be positive and finite, got nan"),
    ],
)
def test_grids_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        landscape(network("sequential"), F.cross_entropy, images(), **options)


def test_a_loss_that_is_no_scalar_and_models_that_cannot_move() -> None:
    with pytest.raises(InputError, match=r"the loss must be a scalar, got shape \[8\]"):
        landscape(network("sequential"), lambda x, y: F.cross_entropy(x, y, reduction="none"), images())
    with pytest.raises(InputError, match="Flatten has no parameters"):
        landscape(nn.Flatten(), F.cross_entropy, images())
    with pytest.raises(InputError, match="BatchNorm2d has only vectors and no filters: set moves_vectors"):
        landscape(nn.BatchNorm2d(1), F.cross_entropy, images())
