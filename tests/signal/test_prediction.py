"""Predicted signal propagation plots: closed forms, an independent simulation, and what must hold for any network."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nfrepro.errors import InputError
from nfrepro.signal import expected_variance
from nfrepro.signal.gaussian_maps import _by_series, gaussian_moments, maximum_moments
from nfrepro.signal.moment_maps import POINT, Image, MomentMaps, PaddingRule, Window, convolved, white_noise
from nfrepro.signal.prediction import (
    BlockDescription,
    Convolution,
    NetworkDescription,
    Normalization,
    SqueezeExcite,
    Stem,
    _propagate,
    predict,
)

HE, LECUN, SCALED_WS = Convolution(2.0), Convolution(1.0), Convolution(1.0, standardized=True)
RELU_GAMMA = math.sqrt(2 / (1 - 1 / math.pi))


def arc_cosine(rho: float) -> float:
    return (math.sqrt(1 - rho**2) + rho * (math.pi - math.acos(rho))) / (2 * math.pi)


def network(
    convolution: Convolution,
    blocks: tuple[int, ...] = (3, 3),
    alpha: float = 1.0,
    activation: object = F.relu,
    gamma: float = 1.0,
    normalization: Normalization = "none",
    beta: bool = False,
) -> NetworkDescription:
    scales = [scale for stage in expected_variance(blocks, alpha) for scale in stage]
    return NetworkDescription(
        activation=activation,  # type: ignore[arg-type]
        stem=Stem((replace(convolution, scale=1.0),)),
        blocks=tuple(
            BlockDescription(
                stage=scale.stage + 1,
                transition=scale.transition,
                branch=(convolution,) * 3,
                shortcut=convolution if scale.transition else None,
                alpha=alpha,
                beta=scale.beta if beta else 1.0,
            )
            for scale in scales
        ),
        gamma=gamma,
        normalization=normalization,
    )


# Gaussian maps


@pytest.mark.parametrize("rho", [0.0, 1e-3, 0.3, 0.8, 0.95, 0.99, 0.999, 0.9999, 1.0])
@pytest.mark.parametrize("q", [1e-3, 1.0, 40.0])
def test_series_of_a_kink_equals_the_arc_cosine_kernel(rho: float, q: float) -> None:
    got = _by_series(F.relu, q, rho * q)
    assert got.covariance == pytest.approx(q * arc_cosine(rho), abs=1e-6 * q)
    assert got.variance == pytest.approx(q * (0.5 - arc_cosine(rho)), abs=1e-6 * q)
    assert got.mean == pytest.approx(math.sqrt(q / (2 * math.pi)), rel=1e-12)


@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0, -1.0])
@pytest.mark.parametrize("rho", [0.0, 0.4, 0.97, 1.0])
def test_two_slopes_in_closed_form_equal_the_series(slope: float, rho: float) -> None:
    def activation(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x, slope * x)

    closed, series = gaussian_moments(activation, 3.0, 3.0 * rho), _by_series(activation, 3.0, 3.0 * rho)
    assert closed.covariance == pytest.approx(series.covariance, abs=3e-6)
    assert closed.variance == pytest.approx(series.variance, abs=3e-6)
    assert closed.mean == pytest.approx(series.mean, abs=1e-12)


@pytest.mark.parametrize("activation", [F.silu, F.gelu, F.relu6, F.softsign, F.elu, torch.tanh])
@pytest.mark.parametrize(("q", "rho"), [(0.3, 0.9), (1.0, 0.2), (9.0, 0.6), (50.0, 0.99)])
def test_expectations_equal_a_nested_sum(activation: object, q: float, rho: float) -> None:
    # z1, z2 = sqrt(M) u + sqrt(q - M) a: E g(z1) g(z2) = E_u (E_a g)^2.
    grid = np.linspace(-9.0, 9.0, 2401)
    weight = np.exp(-(grid**2) / 2) / np.exp(-(grid**2) / 2).sum()
    z = math.sqrt(rho * q) * grid[:, None] + math.sqrt((1 - rho) * q) * grid
    values = activation(torch.from_numpy(z)).numpy()  # type: ignore[operator]
    inner = values @ weight
    got = gaussian_moments(activation, q, rho * q)  # type: ignore[arg-type]
    second_moment = weight @ (values**2 @ weight)
    assert got.mean == pytest.approx(weight @ inner, abs=1e-5 * math.sqrt(second_moment))
    assert got.covariance == pytest.approx(weight @ inner**2, abs=3e-5 * second_moment)
    assert got.second_moment == pytest.approx(second_moment, rel=1e-5)


def test_maximum_of_nine_equals_sampling() -> None:
    # 1.4850 and 0.3574: facts a.9, the signal behind a 3x3 max pool of white noise.
    own = maximum_moments(lambda x: x, 4.0, 9)
    assert own.mean / 2 == pytest.approx(1.48501, abs=1e-5)
    assert own.variance / 4 == pytest.approx(0.35735, abs=1e-5)
    maxima = torch.randn(400_000, 9, generator=torch.Generator().manual_seed(0)).amax(1)
    got = maximum_moments(F.silu, 1.0, 9)
    assert got.mean == pytest.approx(float(F.silu(maxima).mean()), abs=4e-3)
    assert got.variance == pytest.approx(float(F.silu(maxima).var()), abs=4e-3)
    assert got.covariance == got.mean**2


@pytest.mark.parametrize("deviation", [0.7, 3.3, 7.07, 20.0])
def test_kinks_may_be_anywhere(deviation: float) -> None:
    # relu6 from two kinks: E relu6 = sum of +-E relu(z - k), with the closed form of each.
    def mean_above(kink: float) -> float:
        a = kink / deviation
        return deviation * (math.exp(-a * a / 2) / math.sqrt(2 * math.pi) - a * 0.5 * math.erfc(a / math.sqrt(2)))

    def square_above(kink: float) -> float:  # E relu(z - k)^2
        a = kink / deviation
        tail, density = 0.5 * math.erfc(a / math.sqrt(2)), math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
        return deviation**2 * ((1 + a * a) * tail - a * density)

    got = gaussian_moments(F.relu6, deviation**2, 0.9 * deviation**2)
    assert got.mean == pytest.approx(mean_above(0) - mean_above(6), rel=1e-7)
    # relu6^2 = relu(z)^2 - relu(z - 6)^2 - 12 relu(z - 6).
    second_moment = square_above(0) - square_above(6) - 12 * mean_above(6)
    assert got.second_moment == pytest.approx(second_moment, rel=1e-7)


# Closed forms of figure 1 and figure 2


def test_bn_relu_conv_with_he_weights() -> None:
    plot = predict(network(HE, (50, 50), normalization="batch_before_activation"))
    k = plot.groupby("stage").cumcount() + 1
    assert list(plot.columns) == ["block", "stage", "transition", "avg_sq_mean", "avg_var", "res_var"]
    assert plot["block"].tolist() == list(range(1, 101))
    assert plot["transition"].tolist() == [k == 1 for k in [*range(1, 51), *range(1, 51)]]
    np.testing.assert_allclose(plot["avg_sq_mean"], (k + 1) / math.pi, rtol=1e-9)
    np.testing.assert_allclose(plot["avg_var"], (k + 1) * (1 - 1 / math.pi), rtol=1e-9)
    np.testing.assert_allclose(plot["res_var"], 1 - 1 / math.pi, rtol=1e-9)
    assert plot["avg_var"][49] == pytest.approx(34.77, abs=0.01)  # facts b.3
    assert plot["avg_var"][50] == pytest.approx(1.363, abs=1e-3)


def test_relu_bn_conv_with_lecun_weights() -> None:
    plot = predict(network(LECUN, (50, 50), normalization="batch_after_activation"))
    k = plot.groupby("stage").cumcount() + 1
    np.testing.assert_allclose(plot["avg_sq_mean"], 0.0)
    np.testing.assert_allclose(plot["avg_var"], k + 1)
    np.testing.assert_allclose(plot["res_var"], 1.0)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0])
def test_scaled_ws_follows_the_expected_variance(alpha: float) -> None:
    plot = predict(network(SCALED_WS, (4, 5, 2), alpha, gamma=RELU_GAMMA, beta=True))
    expected = [scale.output_variance for stage in expected_variance((4, 5, 2), alpha) for scale in stage]
    np.testing.assert_allclose(plot["avg_var"], expected, rtol=1e-9)
    np.testing.assert_allclose(plot["res_var"], 1.0, rtol=1e-9)
    np.testing.assert_allclose(plot["avg_sq_mean"], 0.0, atol=1e-12)


def test_first_block_with_he_weights() -> None:
    # Facts b.4: correlation 0.318, 0.494, 0.605 behind one, two and three layers.
    for layers, correlation in enumerate((0.318, 0.494, 0.605), start=1):
        block = BlockDescription(1, True, (HE,) * layers, shortcut=HE)
        plot = predict(NetworkDescription(F.relu, Stem((LECUN,)), (block,)))
        assert plot["res_var"][0] == pytest.approx(1 - correlation, abs=5e-4)
        shortcut = 1 / math.pi
        assert plot["avg_sq_mean"][0] == pytest.approx(shortcut + correlation, abs=5e-4)


def test_second_moment_doubles_in_every_unnormalized_block() -> None:
    plot = predict(network(HE, (12,)))
    total = plot["avg_sq_mean"] + plot["avg_var"]
    np.testing.assert_allclose(total, 2.0 ** np.arange(1, 13), rtol=1e-9)
    assert (plot["avg_sq_mean"].diff().dropna() > 0).all()


def test_silu_in_the_order_of_the_code() -> None:
    # beta divides what is activated (facts f.3): the branch begins with Var(silu(sqrt(V) z)) / V, and not Var(silu(z)).
    z = np.linspace(-12, 12, 200_001)
    weight = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()

    def variance(deviation: float) -> float:
        values = deviation * z / (1 + np.exp(-deviation * z))
        return float(weight @ values**2 - (weight @ values) ** 2)

    gamma = variance(1.0) ** -0.5
    description = network(Convolution(1.0, True), (2,), activation=F.silu, gamma=gamma, beta=True)
    plot = predict(description)
    assert plot["avg_var"][0] == pytest.approx(2.0, rel=1e-6)
    v = gamma**2 * variance(math.sqrt(2.0)) / 2.0
    for _ in range(2):
        v = gamma**2 * variance(math.sqrt(v))
    assert plot["res_var"][1] == pytest.approx(v, rel=1e-6)
    assert plot["avg_var"][1] == pytest.approx(2.0 + v, rel=1e-6)


def test_max_pool_makes_one_mean_which_only_standardized_weights_remove() -> None:
    # Facts a.9: 1.045 behind gamma ReLU, 1.03 measured behind a 1x1 scaled WS shortcut.
    def first_block(convolution: Convolution, gamma: float) -> tuple[float, float]:
        block = BlockDescription(1, True, (convolution,), shortcut=convolution, alpha=0.0)
        plot = predict(NetworkDescription(F.relu, Stem((LECUN,), max_pool=True), (block,), gamma=gamma))
        return plot["avg_sq_mean"][0], plot["avg_var"][0]

    squared_mean, variance = first_block(SCALED_WS, RELU_GAMMA)
    assert squared_mean == pytest.approx(0.0, abs=1e-12)
    assert variance == pytest.approx(1.045, abs=5e-3)
    assert first_block(HE, 1.0)[0] == pytest.approx(2 * 2.205, rel=2e-3)


def test_normalization_takes_out_what_a_max_pool_shifts() -> None:
    plots = []
    for normalization in ("batch_before_activation", "group_before_activation"):
        description = network(SCALED_WS, (2,), normalization=normalization)  # type: ignore[arg-type]
        pooled = replace(description, stem=replace(description.stem, max_pool=True))
        plots.append(predict(pooled)[["avg_var", "res_var"]].to_numpy())
    np.testing.assert_allclose(plots[0], plots[1])


@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_squeeze_excite_scales_by_half_its_gain(gain: float) -> None:
    block = BlockDescription(1, True, (SCALED_WS,) * 3, SCALED_WS, squeeze_excite=SqueezeExcite(2, gain))
    plot = predict(NetworkDescription(F.relu, Stem((LECUN,)), (block,), gamma=RELU_GAMMA))
    assert plot["res_var"][0] == pytest.approx((gain / 2) ** 2, rel=1e-9)


def test_average_pool_leaves_a_quarter_of_the_variance() -> None:
    block = BlockDescription(1, True, (SCALED_WS,), SCALED_WS, shortcut_pools=True, alpha=0.0)
    plot = predict(NetworkDescription(F.relu, Stem((LECUN,)), (block,), gamma=RELU_GAMMA))
    assert plot["avg_var"][0] == pytest.approx(0.25, rel=1e-9)


def test_raw_shortcuts_do_not_reset_the_variance() -> None:
    description = network(SCALED_WS, (3, 1), gamma=RELU_GAMMA, beta=True)
    raw = predict(replace(description, shortcut_input="raw"))
    np.testing.assert_allclose(raw["avg_var"], [2, 3, 4, 5], rtol=1e-9)


def test_skip_gain_of_zero_adds_nothing() -> None:
    plot = predict(network(HE, (4,), normalization="batch_before_activation").with_skip_gain(0.0))
    assert plot["avg_var"].nunique() == 1
    np.testing.assert_allclose(plot["res_var"], 1 - 1 / math.pi)


# An independent simulation: one pixel, fully connected, both moments over inputs


def simulate(
    seed: int, width: int, blocks: int, he: bool, batch_norm: str, alpha: float, inputs: int = 1500
) -> NDArray[np.float64]:
    """avg_sq_mean, avg_var and res_var of each block of a stage, the first of which is a transition block."""
    rng = np.random.default_rng(seed)

    def dense(x: NDArray[np.float64]) -> NDArray[np.float64]:
        weight = rng.standard_normal((width, width)) * math.sqrt((2.0 if he else 1.0) / width)
        if not he and not batch_norm:
            weight -= weight.mean(1, keepdims=True)
            weight /= weight.std(1, keepdims=True) * math.sqrt(width)
        return x @ weight.T

    def normalized(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return (x - x.mean(0)) / x.std(0)

    def activated(x: NDArray[np.float64]) -> NDArray[np.float64]:
        if batch_norm == "before":
            return np.maximum(normalized(x), 0.0)
        if batch_norm == "after":
            return normalized(np.maximum(x, 0.0))
        return np.maximum(x, 0.0) * (1.0 if he else RELU_GAMMA)

    x, variance, rows = rng.standard_normal((inputs, width)), 1.0, []
    for number in range(blocks):
        out = activated(x) / (1.0 if batch_norm else math.sqrt(variance))
        shortcut = dense(out) if number == 0 else x
        branch = dense(activated(dense(activated(dense(out)))))
        variance = (1.0 if number == 0 else variance) + alpha**2
        x = shortcut + alpha * branch
        rows.append(((x.mean(0) ** 2).mean(), x.var(0).mean(), branch.var(0).mean()))
    return np.array(rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("he", "batch_norm", "alpha"),
    [
        (True, "", 1.0),
        (True, "", 0.2),
        (False, "", 1.0),
        (False, "", 0.2),
        (True, "before", 1.0),
        (False, "after", 1.0),
    ],
)
def test_predictions_equal_a_simulation(he: bool, batch_norm: str, alpha: float) -> None:
    blocks, seeds = 4, 4
    measured = np.mean([simulate(seed, 800, blocks, he, batch_norm, alpha) for seed in range(seeds)], axis=0)
    normalizations: dict[str, Normalization] = {
        "": "none",
        "before": "batch_before_activation",
        "after": "batch_after_activation",
    }
    convolution = HE if he else LECUN if batch_norm else SCALED_WS
    description = network(
        convolution,
        (blocks,),
        alpha,
        gamma=1.0 if he or batch_norm else RELU_GAMMA,
        normalization=normalizations[batch_norm],
        beta=not batch_norm,
    )
    # The first layers of the simulation see N(0, 1) itself, which is what a stem makes of white noise.
    plot = predict(description)
    total = plot["avg_sq_mean"] + plot["avg_var"]
    np.testing.assert_allclose(measured[:, 1], plot["avg_var"], rtol=0.04)
    np.testing.assert_allclose(measured[:, 2], plot["res_var"], rtol=0.06)
    assert (np.abs(measured[:, 0] - plot["avg_sq_mean"]) < 0.04 * total).all()


# Zero padding


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("window", [Window(3), Window(3, 2), Window(3, 2, "torch"), Window(7, 2)])
def test_maps_of_one_convolution_equal_a_sum_over_taps(centred: bool, window: Window) -> None:
    # A signal with Q, m and C(p, p') = m m' + u u' at any pair of positions, rows and columns alike in u.
    n, k = 7, window.kernel_size
    rng = np.random.default_rng(0)
    line, mean = rng.uniform(0.5, 1.0, n), rng.uniform(0.0, 1.0, (n, n))
    mean = mean + mean.T
    line /= line.mean()
    excess, second_moment = np.outer(line, line), 9.0 + rng.uniform(0.0, 1.0, (n, n))
    rows, rows_of_excess = mean.mean(1), excess.mean(1)
    covariance = np.outer(rows, rows) + np.outer(rows_of_excess, rows_of_excess)
    got = convolved(MomentMaps(Image(n), mean, second_moment, covariance), window, 2.0, centred)

    before = window.before(n)
    starts = range(-before, -before + window.stride * -(-n // window.stride), window.stride)

    def seen(values: NDArray[np.float64]) -> NDArray[np.float64]:  # [row, column, tap]
        padded = np.pad(values, k)
        patches = [[padded[r + k : r + 2 * k, c + k : c + 2 * k].ravel() for c in starts] for r in starts]
        return np.array(patches)

    m, u = seen(mean), seen(excess)
    broken = np.einsum("rct,RCt->rcRC", m, m) + np.einsum("rct,RCt->rcRC", u, u)
    expected = seen(second_moment).sum(2)
    if centred:
        broken -= np.einsum("rc,RC->rcRC", m.sum(2), m.sum(2)) / k**2
        expected = expected - m.sum(2) ** 2 / k**2
    np.testing.assert_allclose(got.second_moment, 2.0 / k**2 * expected, rtol=1e-12)
    np.testing.assert_allclose(got.covariance, 2.0 / k**2 * broken.mean((1, 3)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padding", ["same", "torch"])
@pytest.mark.parametrize("pixels", [200, 257, 514])
def test_large_images_are_small_ones_with_more_of_their_middle(padding: PaddingRule, pixels: int) -> None:
    whole, kept = np.ones(pixels), white_noise(Image(pixels))
    for stride in (2, 1, 2, 1, 1):
        window = Window(3, stride, padding)
        before, size = window.before(len(whole)), -(-len(whole) // stride)
        padded = np.pad(whole, (before, 3))
        whole = np.array([padded[i * stride : i * stride + 3].mean() for i in range(size)])
        kept = convolved(kept, window, 1.0, centred=False)
    assert kept.image.pixels == len(whole)
    assert kept.average(kept.second_moment) == pytest.approx(whole.mean() ** 2, rel=1e-12)


def simulate_maps(seed: int, width: int, pixels: int, blocks: int, plain: bool) -> NDArray[np.float64]:
    """The second moment [block, row, column] of the residual stream, by convolutions with explicit zero padding."""
    rng = np.random.default_rng(seed)

    def convolve(x: NDArray[np.float64], kernel: int) -> NDArray[np.float64]:  # [row, column, image, channel]
        weight = rng.standard_normal((kernel * kernel * width, width))
        if not plain:
            weight -= weight.mean(0)
            weight /= weight.std(0)
        weight *= math.sqrt((2.0 if plain else 1.0) / len(weight))
        border = kernel // 2
        padded = np.pad(x, ((border, border), (border, border), (0, 0), (0, 0)))
        taps = [padded[r : r + pixels, c : c + pixels] for r in range(kernel) for c in range(kernel)]
        return np.concatenate(taps, axis=-1) @ weight

    def activated(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.maximum(x, 0.0) * (1.0 if plain else RELU_GAMMA)

    x, variance, maps = rng.standard_normal((pixels, pixels, 6, width)), 1.0, []
    for _ in range(blocks):
        x = x + convolve(activated(convolve(activated(x) / math.sqrt(variance), 3)), 1)
        variance += 1.0
        maps.append((x**2).mean((2, 3)))
    return np.array(maps)


@pytest.mark.parametrize("plain", [False, True])
def test_second_moments_near_the_border_equal_a_simulation(plain: bool) -> None:
    pixels, blocks = 5, 8
    convolution = HE if plain else SCALED_WS
    branch = (replace(convolution, window=Window(3)), convolution)
    description = NetworkDescription(
        F.relu,
        Stem((LECUN,)),
        tuple(BlockDescription(1, False, branch, beta=math.sqrt(1.0 + k)) for k in range(blocks)),
        gamma=1.0 if plain else RELU_GAMMA,
        pixels=pixels,
    )
    got = np.mean([simulate_maps(seed, 160, pixels, blocks, plain) for seed in range(6)], axis=0)
    expected = [output.second_moment for _, output, _ in _propagate(description)]
    # Plain weights scatter; how the border compares with the middle does not.
    whole = got.mean((1, 2), keepdims=True) / np.mean(expected, axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(whole, 1.0, atol=0.2 if plain else 0.05)
    np.testing.assert_allclose(got / whole, expected, rtol=0.15 if plain else 0.1)


# Properties of any network

NORMALIZATIONS: tuple[Normalization, ...] = (
    "none",
    "batch_before_activation",
    "batch_after_activation",
    "group_before_activation",
)
ACTIVATIONS = (F.relu, F.silu, torch.tanh, F.softplus, F.relu6)


@st.composite
def descriptions(draw: st.DrawFn) -> NetworkDescription:
    convolution = Convolution(
        draw(st.floats(0.1, 4.0)),
        draw(st.booleans()),
        draw(st.sampled_from([POINT, Window(3), Window(5)])),
    )
    description = network(
        convolution,
        tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))),
        draw(st.floats(0.0, 1.5)),
        draw(st.sampled_from(ACTIVATIONS)),
        draw(st.floats(0.5, 3.0)),
        draw(st.sampled_from(NORMALIZATIONS)),
        draw(st.booleans()),
    )
    gates = draw(st.sampled_from([None, SqueezeExcite(1, 2.0), SqueezeExcite(2, 1.0)]))
    pools = draw(st.booleans())
    if pools:
        strided = (convolution, replace(convolution, window=replace(convolution.window, stride=2)), convolution)
        description = replace(
            description,
            blocks=tuple(
                replace(block, shortcut_pools=True, branch=strided) if block.transition else block
                for block in description.blocks
            ),
        )
    return replace(
        description,
        pixels=draw(st.sampled_from([None, 1, 5, 8])),
        stem=replace(description.stem, max_pool=draw(st.booleans())),
        shortcut_input=draw(st.sampled_from(["activated", "raw"])),
        blocks=tuple(replace(block, squeeze_excite=gates) for block in description.blocks),
    )


@settings(max_examples=60)
@given(descriptions())
def test_no_variance_is_negative(description: NetworkDescription) -> None:
    plot = predict(description)
    numbers = plot[["avg_sq_mean", "avg_var", "res_var"]].to_numpy()
    assert np.isfinite(numbers).all()
    assert (numbers >= 0.0).all()


@settings(max_examples=60)
@given(st.sampled_from(ACTIVATIONS), st.floats(0.0, 1e6), st.floats(0.0, 1.0))
def test_a_covariance_is_at_most_the_second_moment(activation: object, q: float, rho: float) -> None:
    got = gaussian_moments(activation, q, rho * q)  # type: ignore[arg-type]
    assert got.variance >= 0.0
    assert got.mean**2 <= got.covariance + 1e-12 * got.second_moment <= got.second_moment * (1 + 2e-12)


@settings(max_examples=30)
@given(st.floats(0.1, 4.0), st.booleans(), st.floats(0.0, 2.0), st.sampled_from([1.0, -2.0, 0.3]))
def test_a_linear_activation_shifts_no_mean(scale: float, standardized: bool, alpha: float, slope: float) -> None:
    plot = predict(network(Convolution(scale, standardized), (2, 2), alpha, activation=lambda x: slope * x))
    np.testing.assert_allclose(plot["avg_sq_mean"], 0.0, atol=1e-12)


@settings(max_examples=30)
@given(st.floats(0.0, 1.5), st.floats(0.01, 0.5), st.booleans(), st.sampled_from([F.relu, F.silu]))
def test_variance_grows_with_alpha(alpha: float, more: float, standardized: bool, activation: object) -> None:
    convolution = Convolution(1.0 if standardized else 2.0, standardized)
    # Inside a stage and without beta, whatever a block adds it adds on top.
    less, greater = (predict(network(convolution, (3,), value, activation)) for value in (alpha, alpha + more))
    total = [plot["avg_sq_mean"] + plot["avg_var"] for plot in (less, greater)]
    assert (total[1] > total[0]).all()


# Bad input


def test_bad_descriptions_are_refused() -> None:
    good = network(HE, (2,))
    block = good.blocks[0]
    bad = {
        "beta": replace(good, blocks=(replace(block, beta=0.0),)),
        "no convolution": replace(good, blocks=(replace(block, branch=()),)),
        "stem": replace(good, stem=Stem(())),
        "scale": replace(good, blocks=(replace(block, branch=(Convolution(-1.0),)),)),
        "not covered by the theory": replace(good, post_activation=True, blocks=(replace(block, shortcut=None),)),
        "elementwise": replace(good, activation=lambda x: x - x.mean()),
        "different size": replace(good, pixels=8, blocks=(replace(block, shortcut=replace(HE, window=Window(1, 2))),)),
    }
    for message, description in bad.items():
        with pytest.raises(InputError, match=message):
            predict(description)
    with pytest.raises(InputError, match="no Gaussian"):
        gaussian_moments(F.relu, 1.0, 2.0)


def test_a_signal_beyond_float64_is_an_input_error() -> None:
    with pytest.raises(InputError):
        predict(network(Convolution(1e100), (5,)))
