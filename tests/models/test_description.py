"""Descriptions of the networks: what is predicted equals what the networks do; what is not says why."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from nfrepro.errors import InputError
from nfrepro.models import convolutions, create
from nfrepro.models.convolutions import Conv2d, ScaledWSConv2d, Standardization, standardized_scale
from nfrepro.models.description import describe, why_inexact
from nfrepro.models.options import FAMILIES
from nfrepro.options import Options
from nfrepro.signal.moment_maps import Image, Window, averaged
from nfrepro.signal.prediction import predict

STATISTICS = ["avg_sq_mean", "avg_var", "res_var"]
PREDICTED = [family for family in FAMILIES if family not in ("efficientnet", "fully_connected")]


def options(family: str, **given: Any) -> Options:
    return FAMILIES[family].model_validate({"name": family, **given})


def prediction(family: str, pixels: int | None, **given: Any) -> pd.DataFrame:
    return predict(describe(options(family, **given), pixels=pixels).with_skip_gain(1.0))


@torch.no_grad()
def measured(family: str, pixels: int, seeds: int, batch: int = 4, **given: Any) -> NDArray[np.float64]:
    """The statistics [block, 3] of real networks at initialisation, SkipInit's scalars at 1, averaged over seeds."""
    runs = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        model: Any = create(family, **given)
        for name, parameter in model.named_parameters():
            if name.endswith("skip_gain"):
                parameter.fill_(1.0)
        x, rows = model.forward_stem(torch.randn(batch, 3, pixels, pixels)), []
        for block in (block for stage in model.stages for block in stage):
            branch = block.residual_branch(block.activated(x) if hasattr(block, "activated") else x)
            x = block(x)
            rows.append([x.mean((0, 2, 3)).square().mean(), *(variance(signal) for signal in (x, branch))])
        runs.append(rows)
    return np.mean(np.array(runs, dtype=np.float64), axis=0)


def variance(x: torch.Tensor) -> torch.Tensor:
    return x.var((0, 2, 3), unbiased=False).mean()


# Networks that keep their scale by norms or by standardized weights scatter little: a few seeds are enough.
EXACT: dict[str, tuple[str, dict[str, Any]]] = {
    "bn_relu_conv": ("bn_resnet", {"conv_init": "he"}),
    "bn_relu_conv lecun": ("bn_resnet", {"conv_init": "lecun"}),
    "relu_bn_conv": ("bn_resnet", {"order": "relu_bn_conv"}),
    "gn_ws": ("gn_ws_resnet", {}),
    "nf": ("nf_resnet", {}),
    "nf alpha 1": ("nf_resnet", {"alpha": 1.0}),
    "nf selu": ("nf_resnet", {"alpha": 1.0, "activation": "selu"}),
    "nf tanh": ("nf_resnet", {"alpha": 1.0, "activation": "tanh"}),
    "nf silu": ("nf_resnet", {"alpha": 1.0, "activation": "silu", "gamma": "exact"}),
    "nf ws": ("nf_resnet", {"convolution": "ws"}),
    "nf raw shortcut": ("nf_resnet", {"alpha": 1.0, "shortcut_input": "raw"}),
    "nf beta off": ("nf_resnet", {"alpha": 1.0, "beta": "off"}),
    "nf beta no_reset": ("nf_resnet", {"alpha": 1.0, "beta": "no_reset"}),
    "nf without gamma": ("nf_resnet", {"alpha": 1.0, "gamma": "none"}),
    "nf gamma in weights": ("nf_resnet", {"alpha": 1.0, "gamma_at": "weights"}),
    "nf timm": ("nf_resnet", {"alpha": 1.0, "ws_epsilon": "timm", "ws_variance": "sample"}),
    "nf torch padding": ("nf_resnet", {"alpha": 1.0, "padding": "torch"}),
}
# Not exact, and yet near.
NEAR: dict[str, tuple[str, dict[str, Any]]] = {
    "nf average pool": ("nf_resnet", {"alpha": 1.0, "shortcut": "average_pool"}),
    "nf squeeze-excite end": ("nf_resnet", {"alpha": 1.0, "squeeze_excite": "end", "squeeze_excite_gain": 1.0}),
    "nf squeeze-excite middle": ("nf_resnet", {"alpha": 1.0, "squeeze_excite": "middle"}),
}
# Plain weights: the common mean makes every layer's scale a random factor.
SCATTERING: dict[str, tuple[str, dict[str, Any]]] = {
    "nf he": ("nf_resnet", {"convolution": "he", "alpha": 1.0}),
    "nf he tanh": ("nf_resnet", {"convolution": "he", "alpha": 1.0, "activation": "tanh"}),
    "unnormalized": ("unnormalized_resnet", {}),
    "skipinit": ("skipinit_resnet", {}),
    "fixup": ("fixup_resnet", {}),
}


@pytest.fixture
def without_borders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions whose images go on at the other side: none of their kernels lies on padding."""
    convolve = F.conv2d

    def pad(x: torch.Tensor, kernel: int, stride: int, value: float = 0.0) -> torch.Tensor:
        top, bottom = convolutions.same_padding(x.shape[2], kernel, stride)
        return F.pad(x, (top, bottom, top, bottom), mode="circular")

    def circular(x: torch.Tensor, weight: Any, bias: Any, stride: Any, padding: Any, groups: int = 1) -> torch.Tensor:
        return convolve(F.pad(x, (*padding, *padding), mode="circular"), weight, bias, stride, groups=groups)

    monkeypatch.setattr(convolutions, "pad_to_same", pad)
    monkeypatch.setattr(F, "conv2d", circular)


@pytest.mark.slow
@pytest.mark.usefixtures("without_borders")
@pytest.mark.parametrize("case", [*EXACT, *NEAR])
def test_predictions_equal_networks(case: str) -> None:
    family, given = {**EXACT, **NEAR}[case]
    assert bool(why_inexact(options(family, **given))) == (case in NEAR)
    shape: dict[str, Any] = {"stem": "small_stride2", "blocks": [2, 2]}
    got = measured(family, 64, seeds=6, **shape, **given)
    check(got, prediction(family, None, **shape, **given), within=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["bn_relu_conv", "gn_ws", "nf", "nf alpha 1", "nf torch padding"])
def test_predictions_know_the_share_of_zero_padding(case: str) -> None:
    family, given = EXACT[case]
    shape: dict[str, Any] = {"stem": "small_stride2", "blocks": [2, 2]}
    got = measured(family, 64, seeds=6, **shape, **given)
    check(got, prediction(family, 64, **shape, **given), within=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "within"), [("nf alpha 1", 0.05), ("nf silu", 0.1), ("bn_relu_conv", 0.05), ("relu_bn_conv", 0.05)]
)
def test_predictions_follow_padding_through_many_blocks(case: str, within: float) -> None:
    family, given = EXACT[case]
    shape: dict[str, Any] = {"stem": "imagenet", "blocks": [2, 2, 30], "width": 0.5}
    got, plot = measured(family, 64, seeds=8, batch=8, **shape, **given), prediction(family, 64, **shape, **given)
    ends = [1, 3, 18, 33]  # of maps of 16, 8 and 4 pixels
    np.testing.assert_allclose(got[ends, 1], plot["avg_var"][ends], rtol=within)
    np.testing.assert_allclose(got[ends, 2], plot["res_var"][ends], rtol=within)


@pytest.mark.slow
def test_predictions_follow_what_padding_breaks_of_a_common_mean() -> None:
    # Without normalization the mean that the max pool makes stays: what varies comes from it, at the border.
    given: dict[str, Any] = {"convolution": "he", "activation": "identity", "alpha": 1.0, "blocks": [2, 2, 20]}
    got, plot = measured("nf_resnet", 64, seeds=24, **given), prediction("nf_resnet", 64, **given)
    np.testing.assert_allclose(got[-1], plot[STATISTICS].to_numpy()[-1], rtol=0.15)


def check(got: NDArray[np.float64], plot: pd.DataFrame, within: float) -> None:
    np.testing.assert_allclose(got[:, 1], plot["avg_var"], rtol=within)
    np.testing.assert_allclose(got[:, 2], plot["res_var"], rtol=within)
    assert (np.abs(got[:, 0] - plot["avg_sq_mean"]) < within * (plot["avg_sq_mean"] + plot["avg_var"])).all()


@pytest.mark.slow
@pytest.mark.parametrize("case", SCATTERING)
def test_predictions_equal_the_mean_of_many_networks(case: str) -> None:
    family, given = SCATTERING[case]
    assert why_inexact(options(family, **given)) == []
    shape: dict[str, Any] = {"stem": "small_stride2", "blocks": [1, 1], "width": 2.0}
    plot = prediction(family, 64, **shape, **given)
    got = measured(family, 64, seeds=16, batch=2, **shape, **given)
    np.testing.assert_allclose(got[:, 1], plot["avg_var"], rtol=0.05)
    np.testing.assert_allclose(got[:, 2], plot["res_var"], rtol=0.08)
    assert (np.abs(got[:, 0] - plot["avg_sq_mean"]) < 0.08 * (plot["avg_sq_mean"] + plot["avg_var"])).all()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["nf_resnet", "bn_resnet", "gn_ws_resnet"])
def test_predictions_equal_networks_behind_a_max_pool(family: str) -> None:
    shape: dict[str, Any] = {"stem": "imagenet", "blocks": [2, 2]}
    plot, got = prediction(family, 192, **shape), measured(family, 192, seeds=2, **shape)
    np.testing.assert_allclose(got[:, 1], plot["avg_var"], rtol=0.05)
    np.testing.assert_allclose(got[:, 2], plot["res_var"], rtol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "within"), [("nf_regnet", 0.15), ("bn_regnet", 0.1), ("nfnet", 0.2)])
def test_predictions_are_near_networks_with_average_pools(family: str, within: float) -> None:
    plot = prediction(family, 128, stochastic_depth=0.0)
    got = measured(family, 128, seeds=2, stochastic_depth=0.0)
    assert why_inexact(options(family, stochastic_depth=0.0))
    np.testing.assert_allclose(got[:, 1], plot["avg_var"], rtol=within)
    np.testing.assert_allclose(got[:, 2], plot["res_var"], rtol=within)


def blocks_of(family: str, **given: Any) -> int:
    with torch.device("meta"):
        model: Any = create(family, **given)
    return sum(len(stage) for stage in model.stages)


@pytest.mark.parametrize("family", PREDICTED)
@pytest.mark.parametrize("pixels", [None, 64])
def test_every_family_has_a_description(family: str, pixels: int | None) -> None:
    plot = predict(describe(options(family), pixels=pixels))
    assert len(plot) == blocks_of(family)
    assert plot["block"].tolist() == list(range(1, len(plot) + 1))
    assert np.isfinite(plot[STATISTICS].to_numpy()).all()
    starts = plot["stage"].diff().fillna(1) == 1
    assert (starts == plot["transition"]).all()


@pytest.mark.parametrize("family", PREDICTED)
def test_transition_blocks_have_the_shortcuts_of_the_network(family: str) -> None:
    with torch.device("meta"):
        model: Any = create(family)
    projections = [getattr(block, "conv_shortcut", None) is not None for stage in model.stages for block in stage]
    assert projections == [block.shortcut is not None for block in describe(options(family)).blocks]


def test_skip_scalars_are_where_they_begin() -> None:
    assert {block.skip_gain for block in describe(options("nf_resnet")).blocks} == {0.0}
    assert {block.skip_gain for block in describe(options("nf_resnet", skipinit_gain=None)).blocks} == {1.0}
    assert {block.skip_gain for block in describe(options("nf_resnet", skipinit_gain=0.3)).blocks} == {0.3}
    assert {block.skip_gain for block in describe(options("skipinit_resnet")).blocks} == {0.0}


def test_fixup_branches_are_nothing_at_initialisation() -> None:
    plot = predict(describe(options("fixup_resnet")))
    assert (plot["res_var"] == 0.0).all()
    # ReLU of ReLU is ReLU: only transition blocks change the signal.
    assert plot.groupby("stage")["avg_var"].nunique().eq(1).all()


def test_figure_1() -> None:
    for given, squared_mean, var, residual in (
        ({"conv_init": "he"}, 16.23, 34.77, 0.6817),
        ({"order": "relu_bn_conv"}, 0.0, 51.0, 1.0),
    ):
        plot = predict(describe(options("bn_resnet", depth=600, **given)))
        ends = plot.groupby("stage").last()
        # The first block sees the max pool.
        np.testing.assert_allclose(ends["avg_sq_mean"], squared_mean, atol=0.05)
        np.testing.assert_allclose(ends["avg_var"], var, atol=0.15)
        np.testing.assert_allclose(ends["res_var"], residual, atol=1e-4)


def test_without_gamma_every_activation_costs_a_factor_of_its_variance() -> None:
    of_relu = (1 - 1 / math.pi) / 2
    plot = predict(describe(options("nf_resnet", gamma="none", stem="small", blocks=[3])).with_skip_gain(1.0))
    # x has variance 1 in front of the first block: three activations, each of the variance that the one before left.
    assert plot["res_var"][0] == pytest.approx(of_relu**3, rel=1e-2)
    assert plot["res_var"].max() < 0.05
    for family in ("nf_regnet", "nfnet"):
        with_gamma, without = (
            predict(describe(options(family, gamma=gamma)).with_skip_gain(1.0))["res_var"]
            for gamma in ("exact", "none")
        )
        assert (without < 0.5 * with_gamma).all()


@pytest.mark.parametrize("epsilon", ["floor", "sum", "timm"])
@pytest.mark.parametrize("estimator", ["population", "sample"])
@pytest.mark.parametrize("scaled", [True, False])
def test_scale_of_standardized_weights(epsilon: Any, estimator: Any, scaled: bool) -> None:
    torch.manual_seed(0)
    how = Standardization(scaled, epsilon, estimator)
    convolution = ScaledWSConv2d(64, 256, 3, standardization=how)
    mean_square = convolution.effective_weight().double().square().mean().item()
    assert 576 * mean_square == pytest.approx(standardized_scale(how, 576), rel=1e-3)


@pytest.mark.parametrize("rule", ["same", "torch"])
@pytest.mark.parametrize(("pixels", "kernel_size", "stride"), [(8, 3, 1), (8, 3, 2), (7, 3, 2), (9, 7, 2), (1, 3, 1)])
def test_windows_lie_where_convolutions_do(rule: Any, pixels: int, kernel_size: int, stride: int) -> None:
    convolution = Conv2d(1, 1, kernel_size, stride, rule)
    torch.nn.init.constant_(convolution.weight, kernel_size**-2.0)
    values = torch.arange(1.0, pixels + 1.0).outer(torch.arange(1.0, pixels + 1.0))
    window = Window(kernel_size, stride, rule)
    expected = convolution(values[None, None]).detach().numpy()[0, 0]
    np.testing.assert_allclose(averaged(values.double().numpy(), Image(pixels), window), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("family", "given", "reason"),
    [
        ("bn_resnet", {"order": "v1"}, "order v1"),
        ("nf_resnet", {"activation": "log_softmax"}, "log_softmax"),
        ("efficientnet", {}, "depthwise"),
        ("fully_connected", {}, "a few images of one pixel"),
    ],
)
def test_what_cannot_be_predicted_says_why(family: str, given: dict[str, Any], reason: str) -> None:
    assert any(reason in text for text in why_inexact(options(family, **given)))
    with pytest.raises(InputError, match=reason):
        describe(options(family, **given))


@pytest.mark.parametrize(
    ("family", "given", "switches"),
    [
        ("nf_resnet", {"stochastic_depth": 0.1}, ["stochastic_depth"]),
        ("nf_resnet", {"shortcut": "average_pool"}, ["average_pool"]),
        ("nf_resnet", {"squeeze_excite": "end"}, ["squeeze_excite"]),
        ("fixup_resnet", {"activation": "silu"}, ["activation"]),
        ("nf_regnet", {}, ["stochastic_depth", "average_pool", "squeeze_excite", "group_width"]),
        ("nfnet", {"stochastic_depth": 0.0}, ["average_pool", "squeeze_excite"]),
        ("nf_resnet", {}, []),
        ("gn_ws_resnet", {}, []),
    ],
)
def test_reasons_name_their_switch(family: str, given: dict[str, Any], switches: list[str]) -> None:
    reasons = why_inexact(options(family, **given))
    assert len(reasons) == len(switches)
    assert all(switch in reason for switch, reason in zip(switches, reasons, strict=True))


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        describe(options("nf_resnet"), pixels=0)
    with pytest.raises(InputError, match="cannot be predicted"):
        describe(Options())


def test_large_images_need_no_padding_term() -> None:
    description = describe(options("nf_resnet", alpha=1.0, depth=26, stem="small"), pixels=4096)
    unbounded = describe(options("nf_resnet", alpha=1.0, depth=26, stem="small"))
    np.testing.assert_allclose(predict(description)[STATISTICS], predict(unbounded)[STATISTICS], rtol=0.01, atol=0.01)
    assert replace(description, pixels=None) == unbounded
