"""Our networks with timm's switches against timm's own: sizes, outputs and gradients, in float64."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from nfrepro.models import create, load_timm
from nfrepro.models.timm_weights import TIMM_SWITCHES, timm_switches

pytestmark = pytest.mark.slow


def ours_like(name: str, num_classes: int = 7) -> nn.Module:
    """Our network that is timm's `name`."""
    return create(name.removeprefix("dm_"), num_classes=num_classes, **timm_switches(name))


def pair(name: str) -> tuple[nn.Module, nn.Module]:
    """timm's network, every parameter moved off its initial value, and ours with its weights."""
    theirs = timm.create_model(name, pretrained=False, num_classes=7).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    ours = ours_like(name).double()
    load_timm(ours, theirs.state_dict())
    return theirs.eval(), ours.eval()


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("nf_resnet26", 64),
        ("nf_resnet50", 64),
        ("nf_resnet101", 64),
        ("nf_regnet_b0", 64),
        ("nf_regnet_b1", 50),
        ("nf_regnet_b2", 32),
        ("nf_regnet_b5", 64),
        ("dm_nfnet_f0", 50),
        ("nfnet_f0", 64),
    ],
)
def test_outputs_equal_timms(name: str, pixels: int) -> None:
    theirs, ours = pair(name)
    x = torch.randn(2, 3, pixels, pixels, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nf_resnet50", 25.56),
        ("nf_regnet_b0", 8.76),
        ("nf_regnet_b1", 10.22),
        ("nf_regnet_b5", 49.74),
        ("dm_nfnet_f0", 71.49),
        ("dm_nfnet_f1", 132.63),
        ("dm_nfnet_f2", 193.78),
    ],
)
def test_parameters_equal_timms(name: str, expected: float) -> None:
    with torch.device("meta"):
        ours, theirs = ours_like(name, 1000), timm.create_model(name, pretrained=False)
    count = sum(parameter.numel() for parameter in ours.parameters())
    assert count == sum(parameter.numel() for parameter in theirs.parameters())
    assert count / 1e6 == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(
    ("switch", "authors"),
    [
        ({"channel_multiple": 1}, "shape"),
        ({"skipinit_gain": 0.0}, "skipinit_gain: missing"),
    ],
)
def test_without_a_switch_that_has_a_shape_the_weights_do_not_fit(switch: dict[str, Any], authors: str) -> None:
    with torch.device("meta"):
        state = timm.create_model("nf_regnet_b0", pretrained=False).state_dict()
        ours = create("nf_regnet_b0", **(timm_switches("nf_regnet_b0") | switch))
        with pytest.raises(ValueError, match=authors):
            load_timm(ours, state)


@pytest.mark.parametrize(
    "switch",
    [
        {"gamma_at": "activation"},
        {"ws_epsilon": "floor"},
        {"ws_variance": "sample"},
        {"padding": "same"},
        {"squeeze_excite_gain": 1.0},
        {"activation": "gelu"},
    ],
    ids=lambda switch: next(iter(switch)),
)
def test_each_switch_matters(switch: dict[str, Any]) -> None:
    theirs, ours = pair("nf_regnet_b0")
    other: nn.Module = create("nf_regnet_b0", num_classes=7, **(timm_switches("nf_regnet_b0") | switch)).double().eval()
    load_timm(other, theirs.state_dict())
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        assert (ours(x) - other(x)).abs().max() > 1e-8


def test_names_and_networks_that_timm_has_nothing_like_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"no switches for timm's 'nf_regnet_b9', did you mean nf_regnet_b\d\? known: nf_"
    ):
        timm_switches("nf_regnet_b9")
    with pytest.raises(
        ValueError, match=r"load_timm: timm has no counterpart of PreactivationResNet; known: nf_resnet26, "
    ):
        load_timm(create("bn_resnet26"), {})
    assert timm_switches("nf_resnet50") == TIMM_SWITCHES
    timm_switches("nf_resnet50").clear()
    assert timm_switches("nf_resnet50") == TIMM_SWITCHES


def test_gradients_equal_timms() -> None:
    theirs, ours = pair("nf_resnet26")
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    gradients = []
    for model in (theirs, ours):
        model(x).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    pairs = {
        "stem.conv.weight": "initial_conv.weight",
        "stages.1.0.downsample.conv.gain": "stages.1.0.conv_shortcut.gain",
        "stages.3.1.conv2.weight": "stages.3.1.conv1.weight",
        "head.fc.weight": "linear.weight",
    }
    for timm_name, our_name in pairs.items():
        expected: Tensor = gradients[0][timm_name]
        torch.testing.assert_close(
            gradients[1][our_name], expected.view_as(gradients[1][our_name]), rtol=1e-7, atol=1e-9
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop("stages.0.0.conv1.gain"),
            r"load_timm: stages\.0\.0\.conv1\.gain: missing, stages\.0\.0\.conv0\.gain needs it",
        ),
        (lambda state: state.update(more=torch.ones(1)), "load_timm: more: the network has no place for it"),
        (
            lambda state: state.update({"head.fc.bias": torch.ones(3)}),
            r"head\.fc\.bias: shape \[3\] does not fit linear\.bias \[7\]",
        ),
        (
            lambda state: state.update({"stages.0.0.conv1.gain": torch.ones(1, 64, 1, 1)}),
            r"conv1\.gain: shape \[1, 64, 1, 1\] does not fit stages\.0\.0\.conv0\.gain \[64\]",
        ),
    ],
)
def test_a_tree_that_does_not_fit_changes_nothing(change: Any, message: str) -> None:
    ours = create("nf_resnet26", num_classes=7, **TIMM_SWITCHES)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    state = timm.create_model("nf_resnet26", pretrained=False, num_classes=7).state_dict()
    change(state)
    with pytest.raises(ValueError, match=message):
        load_timm(ours, state)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
