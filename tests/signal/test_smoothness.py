"""Smoothness along the gradient against closed forms, finite differences and a plain loop in float64."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.models import create
from nfrepro.signal import smoothness

LENGTHS = (0.05, 0.1, 0.4)
SMALL = {"num_classes": 4, "in_channels": 1, "blocks": [2, 1], "width": 0.0625, "stem": "small"}


class Weights(nn.Module):
    """Returns its parameters as one vector, whatever the input."""

    def __init__(self, matrix: Tensor, vector: Tensor) -> None:
        super().__init__()
        self.matrix, self.vector = nn.Parameter(matrix), nn.Parameter(vector)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.matrix.flatten(), self.vector])


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_weight(value: float) -> Weights:
    return Weights(torch.tensor([[value]], dtype=torch.float64), torch.empty(0, dtype=torch.float64))


def images(count: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 1, 8, 8, generator=generator), torch.randint(4, (count,), generator=generator)


def network(name: str, **options: Any) -> nn.Module:
    """No gain, bias or classifier is 0 or 1, so that gradients get everywhere."""
    torch.manual_seed(2)
    model = create(name, **SMALL, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "bn": lambda: network("bn_resnet"),
    "nf": lambda: network("nf_resnet", dropout=0.5, stochastic_depth=0.5),
    "unnormalized": lambda: network("unnormalized_resnet"),
    "sequential": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 4)),
}


# Exact


@pytest.mark.parametrize("relative", [False, True])
def test_a_quadratic_in_closed_form(relative: bool) -> None:
    model, inputs = Weights(draws(2, 3), draws(4, seed=1)), torch.zeros(1)
    root, target = draws(10, 10, seed=2) / 3, draws(10, seed=3)
    curvature = root @ root.T

    def loss(w: Tensor, t: Tensor) -> Tensor:
        return 0.5 * (w - t) @ curvature @ (w - t)

    found = smoothness(model, loss, (inputs, target), LENGTHS, relative=relative)
    w = model(inputs).detach()
    gradient = curvature @ (w - target)
    steps = torch.tensor(LENGTHS, dtype=torch.float64) * (w.norm() / gradient.norm() if relative else 1.0)
    assert found.loss == pytest.approx(float(loss(w, target)), rel=1e-13)
    assert found.gradient_norm == pytest.approx(float(gradient.norm()), rel=1e-13)
    assert found.weight_norm == pytest.approx(float(w.norm()), rel=1e-13)
    assert found.distances == pytest.approx((steps * gradient.norm()).tolist(), rel=1e-13)
    losses = [
        float(loss(w, target) - s * gradient @ gradient + s**2 / 2 * gradient @ curvature @ gradient) for s in steps
    ]
    assert found.losses == pytest.approx(losses, rel=1e-11)
    assert found.loss_range == pytest.approx(max(losses) - min(losses), rel=1e-10)
    bent = (curvature @ gradient).norm()
    assert found.gradient_changes == pytest.approx((steps * bent).tolist(), rel=1e-11)
    assert found.gradient_change == found.gradient_changes[-1]
    # The same at every distance: what bends a quadratic does not depend on the place.
    assert found.beta == pytest.approx(float(bent / gradient.norm()), rel=1e-11)
    assert found.relative_beta == pytest.approx(float(bent / gradient.norm() * w.norm() ** 2), rel=1e-11)
    assert found.relative_gradient_change == pytest.approx(float(steps[-1] * bent / gradient.norm()), rel=1e-11)


def plain(model: nn.Module, batch: tuple[Tensor, Tensor], length: float) -> tuple[float, Tensor]:
    """Loss and gradient after a step of SGD with that learning rate, by a copy in float64 whose BatchNorms train."""
    model = copy.deepcopy(model).double().eval()
    for module in model.modules():
        module.train(isinstance(module, nn.BatchNorm2d))
    optimizer = torch.optim.SGD(model.parameters(), lr=length or 1.0)
    x, labels = batch[0].double(), batch[1]
    F.cross_entropy(model(x), labels).backward()
    if length:
        optimizer.step()
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
    return float(F.cross_entropy(model(x), labels).detach()), gradient


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_against_steps_of_sgd_in_float64(name: str) -> None:
    model, batch = NETWORKS[name](), images()
    found = smoothness(model, F.cross_entropy, batch, LENGTHS, dtype=torch.float64)
    loss, gradient = plain(model, batch, 0.0)
    moved = [plain(model, batch, length) for length in LENGTHS]
    assert found.loss == pytest.approx(loss, rel=1e-12)
    assert found.gradient_norm == pytest.approx(float(gradient.norm()), rel=1e-10)
    assert found.losses == pytest.approx([value for value, _ in moved], rel=1e-10)
    changes = [float((there - gradient).norm()) for _, there in moved]
    assert found.gradient_changes == pytest.approx(changes, rel=1e-9)
    assert found.beta == pytest.approx(max(c / d for c, d in zip(changes, found.distances, strict=True)), rel=1e-9)
    # What the model itself would compute, but for float32.
    single = smoothness(model, F.cross_entropy, batch, LENGTHS)
    assert single.losses == pytest.approx(found.losses, rel=1e-3)
    assert single.beta == pytest.approx(found.beta, rel=2e-2)


def test_short_steps_against_finite_differences_and_the_hessian() -> None:
    """The slope of the loss along the gradient g is -|g|^2; gradients change by H g times the length of the step."""
    model, batch, step = NETWORKS["sequential"](), images(), 1e-5
    found = smoothness(model, F.cross_entropy, batch, (step, 2 * step), dtype=torch.float64)
    slope = (-3 * found.loss + 4 * found.losses[0] - found.losses[1]) / (2 * step)
    assert slope == pytest.approx(-(found.gradient_norm**2), rel=1e-7)
    at = copy.deepcopy(model).double().eval()
    gradient = torch.autograd.grad(
        F.cross_entropy(at(batch[0].double()), batch[1]), list(at.parameters()), create_graph=True
    )
    square = sum((g * g.detach()).sum() for g in gradient)
    product = torch.autograd.grad(square, list(at.parameters()))
    of_hessian = math.sqrt(sum(float(part.square().sum()) for part in product)) / found.gradient_norm
    assert found.beta == pytest.approx(of_hessian, rel=1e-4)


@pytest.mark.parametrize("scale", [0.1, 7.0])
def test_relative_numbers_do_not_see_a_scale_that_the_loss_does_not_see(scale: float) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6, eps=1e-30, affine=False), nn.ReLU(), nn.Flatten()
    ).double()
    # The head has no part in it: it is no parameter.
    head = draws(6 * 36, 4) / 10

    def loss(features: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(features @ head, labels)

    x, labels = images()
    batch = x.double(), labels
    shares = (0.01, 0.05, 0.2)
    before = smoothness(model, loss, batch, shares, relative=True)
    fixed = smoothness(model, loss, batch, LENGTHS)
    with torch.no_grad():
        model[0].weight.mul_(scale)
    after = smoothness(model, loss, batch, shares, relative=True)
    for name in ("loss", "losses", "loss_range", "relative_gradient_change", "relative_beta"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-8), name
    assert after.gradient_norm == pytest.approx(before.gradient_norm / scale, rel=1e-10)
    assert after.beta == pytest.approx(before.beta / scale**2, rel=1e-8)
    # The same learning rate is another share of the weights.
    moved = smoothness(model, loss, batch, LENGTHS)
    assert moved.loss_range != pytest.approx(fixed.loss_range, rel=0.1)


def test_running_statistics_on_request() -> None:
    model, batch = NETWORKS["bn"](), images()
    for layer in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        layer.running_mean.fill_(0.3)
        layer.running_var.fill_(2.0)
    running = smoothness(model, F.cross_entropy, batch, LENGTHS, batch_statistics=False)
    with torch.no_grad():
        expected = F.cross_entropy(copy.deepcopy(model).eval()(batch[0]), batch[1])
    assert running.loss == pytest.approx(float(expected), rel=1e-5)
    assert smoothness(model, F.cross_entropy, batch, LENGTHS).loss != pytest.approx(running.loss, rel=1e-3)


def test_frozen_parameters_stay_and_tied_ones_move_together() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False), nn.Linear(3, 1)).double()
    model[1].weight = model[0].weight
    model[2].requires_grad_(False)
    x, target = draws(5, 3), draws(5, 1, seed=1)
    found = smoothness(model, F.mse_loss, (x, target), (0.01, 0.02))
    gradient = torch.autograd.grad(F.mse_loss(model(x), target), model[0].weight)[0]
    moved = model[0].weight - 0.02 * gradient
    expected = F.mse_loss(model[2](x @ moved.T @ moved.T), target).item()
    assert found.losses[1] == pytest.approx(expected, rel=1e-12)
    assert found.weight_norm == pytest.approx(model[0].weight.norm().item(), rel=1e-12)


def test_beyond_the_domain_of_the_loss_everything_is_infinite() -> None:
    model = one_weight(1.0)
    found = smoothness(model, lambda w, _: w.log().sum(), (torch.zeros(1), torch.zeros(1)), (0.5, 2.0))
    assert found.losses == (math.log(0.5), math.inf)
    assert (found.loss_range, found.gradient_changes[0]) == (math.inf, pytest.approx(1.0))
    model = one_weight(20.0)
    found = smoothness(model, lambda w, _: -w.exp().sum(), (torch.zeros(1), torch.zeros(1)), (1e-2, 2e-2))
    assert found.losses == found.gradient_changes == (math.inf, math.inf)
    assert (found.loss_range, found.gradient_change, found.beta) == (math.inf, math.inf, math.inf)


# The model afterwards


def traces(model: nn.Module) -> dict[str, Any]:
    """All that a measurement must not change."""
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "objects": {name: id(value) for name, value in model.named_parameters()},
        "buffers": {name: id(value) for name, value in model.named_buffers()},
        "gradients": [parameter.grad for parameter in model.parameters()],
        "requires": [parameter.requires_grad for parameter in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "tracks": [getattr(module, "track_running_stats", None) for module in model.modules()],
        "random": torch.get_rng_state(),
        "autograd": torch.is_grad_enabled(),
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_the_model_is_left_as_it_was(name: str, dtype: torch.dtype | None) -> None:
    model = NETWORKS[name]().train()
    before = traces(model)
    found = smoothness(model, F.cross_entropy, images(), LENGTHS, dtype=dtype)
    assert same(before, traces(model))
    with torch.no_grad():  # a caller without gradients gets them too
        assert smoothness(model, F.cross_entropy, images(), LENGTHS, dtype=dtype) == found
        assert not torch.is_grad_enabled()


def test_the_model_is_left_as_it_was_by_a_loss_that_fails_on_the_way() -> None:
    model, calls = NETWORKS["bn"]().train(), iter(range(10))

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        if next(calls) == 2:
            raise RuntimeError("no more")
        return F.cross_entropy(logits, labels)

    before = traces(model)
    with pytest.raises(RuntimeError, match="no more"):
        smoothness(model, loss, images(), LENGTHS)
    assert same(before, traces(model))


# Bad input


@pytest.mark.parametrize("lengths", [(), (0.1,), (0.2, 0.1), (0.1, 0.1), (0.0, 0.1), (-1.0, 1.0), (0.1, math.inf)])
def test_step_lengths_that_make_no_sense(lengths: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="step_lengths must be two or more, positive and increasing, got"):
        smoothness(NETWORKS["sequential"](), F.cross_entropy, images(), lengths)


def test_a_length_that_is_no_number() -> None:
    with pytest.raises(InputError, match="step_lengths"):
        smoothness(NETWORKS["sequential"](), F.cross_entropy, images(), (0.1, math.nan))


def test_a_loss_that_is_no_scalar() -> None:
    model = NETWORKS["sequential"]()
    with pytest.raises(InputError, match=r"the loss must be a scalar, got shape \[8\]: take its mean"):
        smoothness(model, lambda x, y: F.cross_entropy(x, y, reduction="none"), images(), LENGTHS)
    with pytest.raises(InputError, match="the loss must be a scalar, got a float"):
        smoothness(model, lambda x, y: F.cross_entropy(x, y).item(), images(), LENGTHS)  # type: ignore[arg-type]


def test_a_model_without_parameters() -> None:
    with pytest.raises(InputError, match="Flatten has no parameters: there is nothing to move"):
        smoothness(nn.Flatten(), F.cross_entropy, images(), LENGTHS)
    frozen = NETWORKS["sequential"]().requires_grad_(False)
    with pytest.raises(InputError, match="Sequential has no parameters that require a gradient"):
        smoothness(frozen, F.cross_entropy, images(), LENGTHS)


def test_a_loss_from_which_nothing_follows() -> None:
    model = NETWORKS["sequential"]()
    with pytest.raises(InputError, match="the loss does not depend on the parameters"):
        smoothness(model, lambda x, y: F.cross_entropy(x.detach(), y), images(), LENGTHS)
    with pytest.raises(InputError, match="the gradient is 0"):
        smoothness(model, lambda x, y: 0.0 * F.cross_entropy(x, y), images(), LENGTHS)
    with pytest.raises(InputError, match="the loss is nan"):
        smoothness(model, lambda x, y: F.cross_entropy(x, y) * math.nan, images(), LENGTHS)
    with pytest.raises(InputError, match="all weights are 0"):
        smoothness(one_weight(0.0), lambda w, _: w.sum(), (torch.zeros(1), torch.zeros(1)), LENGTHS, relative=True)
