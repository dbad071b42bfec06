"""Correlation of gradients against finite differences, closed forms, long forms, and theory in the limit of width."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.models import create
from nfrepro.signal import (
    GradientCorrelation,
    brown_noise,
    circle,
    gradient_correlation,
    input_gradients,
    white_noise,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def with_batch_norm() -> nn.Sequential:
    """A small network in float64 whose BatchNorm has a scale, a shift and running statistics of its own."""
    torch.manual_seed(3)
    norm = nn.BatchNorm1d(6)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        assert tensor is not None
        nn.init.normal_(tensor)
    assert norm.running_var is not None
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return nn.Sequential(nn.Linear(4, 6), norm, nn.SiLU(), nn.Dropout(0.5), nn.Linear(6, 3)).double()


# Gradients


@pytest.mark.parametrize("statistics", ["inputs", "batch", "running"])
def test_gradients_are_finite_differences_with_constant_statistics(statistics: str) -> None:
    model, x, others = with_batch_norm(), noise(5, 4), noise(9, 4, seed=1)
    first, norm, _, _, last = model
    mean, variance = norm.running_mean, norm.running_var
    if statistics != "running":
        hidden = first(x if statistics == "inputs" else others).detach()
        mean, variance = hidden.mean(0), hidden.var(0, correction=0)

    def number(one: Tensor) -> float:
        normalized = (first(one) - mean) / torch.sqrt(variance + norm.eps) * norm.weight + norm.bias
        return float(last(normalized * torch.sigmoid(normalized)).sum().detach())

    batch = others if statistics == "batch" else None
    found = input_gradients(model, x, batch=batch, batch_statistics=statistics != "running")
    step = 1e-5
    for index in range(5):
        for place in range(4):
            shift = step * torch.eye(4, dtype=torch.float64)[place]
            slope = (number(x[index] + shift) - number(x[index] - shift)) / (2 * step)
            assert found[index, place].item() == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_the_number_can_be_chosen() -> None:
    model, x, weights = with_batch_norm(), noise(5, 4), noise(3, seed=1)
    found = input_gradients(model, x, output=lambda logits: logits @ weights)
    parts = [input_gradients(model, x, output=lambda logits, k=k: logits[:, k]) for k in range(3)]
    expected = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(input_gradients(model, x), sum(parts))


def test_without_batch_norm_no_input_matters_to_another() -> None:
    torch.manual_seed(0)
    model, x = create("nf_resnet", blocks=[1, 1], width=0.125, num_classes=4, stem="small").double(), noise(3, 3, 8, 8)
    together = input_gradients(model, x)
    pairs = torch.cat([input_gradients(model, x[[i, i]])[:1] for i in range(3)])
    torch.testing.assert_close(together, pairs, rtol=1e-10, atol=1e-12)


def test_the_model_is_left_as_it_was() -> None:
    model = with_batch_norm().train()
    model[3].eval()  # type: ignore[operator]
    model(noise(4, 4)).sum().backward()
    norm: Any = model[1]
    norm.num_batches_tracked.fill_(7)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    identities = norm.running_mean, norm.running_var
    gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    x = noise(5, 4)
    with torch.no_grad():
        input_gradients(model, x)
    assert not x.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model] == [True, True, True, False, True]
    assert norm.running_mean is identities[0]
    assert norm.running_var is identities[1]
    assert not norm._forward_pre_hooks
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)


def test_a_model_that_fails_is_left_as_it_was_too() -> None:
    model = with_batch_norm().train()
    running = model[1].running_mean
    with pytest.raises(RuntimeError, match="shapes"):
        input_gradients(nn.Sequential(*model, nn.Linear(9, 9).double()), noise(5, 4))
    assert model.training
    assert model[1].running_mean is running


def test_a_norm_that_keeps_no_statistics_uses_those_of_the_inputs_as_constants() -> None:
    model, bare = with_batch_norm(), with_batch_norm()
    norm: Any = nn.BatchNorm1d(6, track_running_stats=False).double()
    norm.load_state_dict({name: value for name, value in model[1].state_dict().items() if name in ("weight", "bias")})
    bare[1] = norm
    torch.testing.assert_close(input_gradients(bare, noise(5, 4)), input_gradients(model, noise(5, 4)))
    assert norm.running_mean is None


# Second moments


def test_a_linear_network_has_one_gradient() -> None:
    found = gradient_correlation(nn.Linear(7, 3).double(), noise(5, 7))
    torch.testing.assert_close(found.correlation, torch.ones(5, 5, dtype=torch.float64))
    torch.testing.assert_close(found.autocorrelation(centred=False), torch.ones(5, dtype=torch.float64))
    assert found.autocorrelation().isnan().all()  # nothing varies


class Quadratic(nn.Module):
    """x A x / 2 of a symmetric A, whose gradient is A x."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("ni,ij,nj->n", x, self.matrix, x) / 2


def test_a_quadratic_form_by_hand() -> None:
    root, x = noise(6, 6), noise(5, 6, seed=1)
    matrix = root + root.T
    found = gradient_correlation(Quadratic(matrix), x)
    rows = (x @ matrix).numpy()
    np.testing.assert_allclose(found.covariance.numpy(), rows @ rows.T / 6, rtol=1e-12)
    lengths = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(found.correlation.numpy(), rows @ rows.T / np.outer(lengths, lengths), rtol=1e-12)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("centred", [False, True])
@settings(max_examples=25)
@given(count=st.integers(2, 9), size=st.integers(1, 4), seed=st.integers(0, 1000))
def test_autocorrelation_is_its_long_form(closed: bool, centred: bool, count: int, size: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(count, size))
    found = gradient_correlation(Fixed(torch.from_numpy(rows)), torch.zeros(count, size, dtype=torch.float64))
    if centred:
        rows = rows - rows.mean(0)
    lags = range(count // 2 + 1) if closed else range(count)
    expected = []
    for lag in lags:
        pairs = [(i, (i + lag) % count) for i in range(count if closed else count - lag)]
        expected.append(np.mean([rows[i] @ rows[j] / size for i, j in pairs]))
    np.testing.assert_allclose(found.autocovariance(closed=closed, centred=centred).numpy(), expected, atol=1e-12)
    correlation = found.autocorrelation(closed=closed, centred=centred).numpy()
    np.testing.assert_allclose(correlation, np.array(expected) / expected[0], atol=1e-9)
    # A product of a matrix with its transpose is symmetric up to the order in which a kernel adds.
    torch.testing.assert_close(found.correlation, found.correlation.T, rtol=0.0, atol=1e-12)
    assert found.correlation.abs().max() <= 1 + 1e-12


class Fixed(nn.Module):
    """Has the gradients that it is given."""

    def __init__(self, gradients: Tensor) -> None:
        super().__init__()
        self.gradients = gradients

    def forward(self, x: Tensor) -> Tensor:
        return self.gradients * x


# Lines and kinds of noise


def test_the_circle_is_one() -> None:
    first, second = noise(3, 4, 4), noise(3, 4, 4, seed=1)
    points = circle(first, second, 12).flatten(1)
    torch.testing.assert_close(points[0], first.flatten())
    angles = 2 * math.pi * np.arange(12) / 12
    expected = float(first.square().sum()) * np.cos(angles[:, None] - angles)
    np.testing.assert_allclose((points @ points.T).numpy(), expected, atol=1e-10)
    # In their plane, and turning towards the second.
    plane = torch.stack([first.flatten(), second.flatten()])
    assert torch.linalg.matrix_rank(torch.cat([points, plane]), rtol=1e-9).item() == 2
    assert points[1] @ second.flatten() > points[-1] @ second.flatten()
    assert circle(first.float(), second.float(), 12).dtype == torch.float32


def test_white_noise_is_that_of_independent_numbers() -> None:
    torch.testing.assert_close(white_noise(8).correlation, torch.eye(8, dtype=torch.float64))
    # The mean of the line is taken out.
    expected = torch.tensor([1.0] + [-1 / 7] * 4, dtype=torch.float64)
    torch.testing.assert_close(white_noise(8).autocorrelation(closed=True), expected)


def test_brown_noise_is_that_of_random_walks() -> None:
    walks = np.cumsum(np.random.default_rng(0).normal(size=(200_000, 6)), axis=1)
    found = brown_noise(6)
    np.testing.assert_allclose(found.covariance.numpy(), walks.T @ walks / len(walks), atol=0.06)
    bridges = walks - walks[:, -1:] * np.arange(1, 7) / 6
    np.testing.assert_allclose(brown_noise(6, closed=True).covariance, bridges.T @ bridges / len(walks), atol=0.03)


def test_closed_brown_noise_is_watsons() -> None:
    # Of a bridge without its mean: 1/12 - u (1 - u) / 2 in the limit of many steps (Watson 1961).
    share = np.arange(501) / 1000
    np.testing.assert_allclose(
        brown_noise(1000, closed=True).autocorrelation(closed=True).numpy(), 1 - 6 * share * (1 - share), atol=1e-5
    )


# Theory in the limit of width


def test_one_wide_relu_layer_loses_the_angle_over_pi() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2000, 3000, bias=False), nn.ReLU(), nn.Linear(3000, 1)).double()
    found = gradient_correlation(model, circle(noise(2000), noise(2000, seed=1), 16))
    expected = 1 - np.arange(9) / 8
    # Chance is one part in the root of 2000.
    np.testing.assert_allclose(found.autocorrelation(closed=True, centred=False).numpy(), expected, atol=0.05)
    np.testing.assert_allclose(found.autocorrelation(closed=True).numpy(), 2 * expected - 1, atol=0.1)


def theory(connection: str, normalization: str, alpha: float, depth: int, count: int) -> NDArray[np.float64]:
    """Correlation of gradients by distance on the circle, of infinitely wide ReLU networks.

    The activations of two inputs have the covariance `signal`; layers map it by arc-cosine kernels (Cho and Saul 2009),
    and multiply that of the gradients by the share of units active at both.
    """
    signal = np.cos(2 * np.pi * np.arange(count) / count)
    gradient = np.ones(count)
    gamma_squared = 2 / (1 - 1 / np.pi)
    for block in range(depth):
        power = signal[0]
        if normalization == "batch_norm":
            mean = signal[count // 4]  # what two inputs of the batch have in common: they are orthogonal
            branch, slope = kernels((signal - mean) / (power - mean))
            slope = slope / (power - mean)
        elif normalization == "scaled_ws":
            beta_squared = 1 + alpha**2 * block if connection == "residual" else 1.0
            branch, slope = kernels(signal / power)
            # Weights without a mean do not see that of the activated signal.
            branch = gamma_squared * power / beta_squared * (branch / 2 - 1 / (2 * np.pi))
            slope = gamma_squared * slope / 2 / beta_squared
        else:
            branch, slope = kernels(signal / power)
            branch = power * branch
        if connection == "plain":
            signal, gradient = branch, gradient * slope
        else:
            signal, gradient = signal + alpha**2 * branch, gradient * (1 + alpha**2 * slope)
    return np.asarray((gradient / gradient[0])[: count // 2 + 1])


def kernels(cosine: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """2 E[relu(u) relu(v)] and 2 E[1(u > 0) 1(v > 0)] of Gaussians with that correlation."""
    cosine = np.clip(cosine, -1, 1)
    angle = np.arccos(cosine)
    return (np.sin(angle) + (np.pi - angle) * cosine) / np.pi, (np.pi - angle) / np.pi


@pytest.mark.parametrize(
    ("connection", "normalization", "alpha"),
    [
        ("plain", "none", 1.0),
        ("plain", "batch_norm", 1.0),
        ("plain", "scaled_ws", 1.0),
        ("residual", "none", 1.0),
        ("residual", "batch_norm", 1.0),
        ("residual", "scaled_ws", 1.0),
        ("residual", "scaled_ws", 0.5),
    ],
)
def test_networks_follow_the_theory_of_great_width(connection: str, normalization: str, alpha: float) -> None:
    torch.manual_seed(0)
    depth, count, draws, pixels = 4, 32, 10, 24
    options: dict[str, Any] = {"connection": connection, "normalization": normalization, "alpha": alpha}
    found = torch.zeros(count // 2 + 1, dtype=torch.float64)
    for draw in range(draws):
        model = create(
            "fully_connected", depth=depth, width=500, pixels=pixels, num_classes=1, in_channels=1, **options
        )
        first, second, *batch = noise(130, 1, pixels, pixels, seed=draw).float()
        found += (
            gradient_correlation(model, circle(first, second, count), batch=torch.stack(batch)).autocorrelation(
                closed=True, centred=False
            )
            / draws
        )
    expected = theory(connection, normalization, alpha, depth, count)
    np.testing.assert_allclose(found.numpy(), expected, atol=0.03)


def test_scaled_ws_halves_the_correlation_of_orthogonal_inputs_in_every_layer() -> None:
    # The source's theorem 1, by our recursion: orthogonal inputs stay orthogonal.
    for depth in (1, 3, 6):
        assert theory("plain", "scaled_ws", 1.0, depth, 64)[16] == pytest.approx(0.5**depth)


# Bad input


@pytest.mark.parametrize(
    ("model", "inputs", "output", "message"),
    [
        (nn.Linear(4, 2), torch.zeros(1, 4), None, r"at 2 inputs or more, got \[1, 4\]"),
        (nn.Linear(4, 2), torch.tensor(1.0), None, r"at 2 inputs or more, got \[\]"),
        (nn.Embedding(4, 2), torch.zeros(3, dtype=torch.int64), None, "torch.int64 is not a floating-point type"),
        (nn.LSTM(4, 2), torch.zeros(3, 4), None, "the model returns a tuple, not a tensor: choose a number with"),
        (nn.Linear(4, 2), torch.zeros(3, 4), torch.mean, r"one number an input, \[3\], got \[\]"),
        (nn.Linear(4, 2), torch.zeros(3, 4), lambda y: y, r"one number an input, \[3\], got \[3, 2\]"),
        (nn.Linear(4, 2), torch.zeros(3, 4), len, "one number an input, .3., got a int"),
        (nn.Linear(4, 2), torch.zeros(3, 4), lambda y: y.argmax(1), "torch.int64 numbers .* have no gradient"),
        (nn.Linear(4, 2), torch.zeros(3, 4), lambda y: y.sum(1).detach(), "have no gradient with respect to"),
        (nn.Linear(4, 2), torch.zeros(3, 4), lambda y: y.sum(1) / 0, "not finite: the signal or its gradient"),
        (nn.Linear(4, 2), torch.zeros(3, 4), lambda y: 0 * y.sum(1), "the gradient is 0 at every input"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    model: nn.Module, inputs: Tensor, output: Callable[[Any], Any] | None, message: str
) -> None:
    given = {} if output is None else {"output": output}
    with pytest.raises(InputError, match=message) as caught:
        gradient_correlation(model, inputs, **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "count", "message"),
    [
        (noise(4), noise(4), 8, "different directions"),
        (noise(4), torch.zeros(4), 8, "different directions"),
        (torch.zeros(4), noise(4), 8, "different directions"),
        (noise(4), noise(5), 8, r"the same shape, got \[4\] and \[5\]"),
        (noise(4), noise(4, seed=1), 1, "a circle has 1 inputs"),
    ],
)
def test_inputs_that_span_no_circle_are_refused(first: Tensor, second: Tensor, count: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        circle(first, second, count)


def test_a_batch_of_other_images_than_the_inputs_is_refused() -> None:
    with pytest.raises(InputError, match=r"batch \[5, 3\] and inputs \[5, 4\] must have the same shape"):
        gradient_correlation(with_batch_norm(), noise(5, 4), batch=noise(5, 3))


def test_a_batch_means_nothing_to_a_network_without_batch_norm() -> None:
    model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)).double(), noise(5, 4)
    torch.testing.assert_close(input_gradients(model, x, batch=noise(9, 4, seed=1)), input_gradients(model, x))


def test_gradients_of_zero_have_no_correlation_with_others() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    found: GradientCorrelation = gradient_correlation(Fixed(rows), torch.ones(2, 2, dtype=torch.float64))
    assert found.correlation.isnan().tolist() == [[False, True], [True, True]]
