"""Our NF-ResNet with timm's switches against timm's own network: outputs and gradients, in float64."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from nfrepro.models import create, load_timm
from nfrepro.models.timm_weights import TIMM_SWITCHES


def pair(name: str, **sizes: Any) -> tuple[nn.Module, nn.Module]:
    """timm's network, every parameter moved off its initial value, and ours with its weights."""
    theirs = timm.create_model(name, pretrained=False, num_classes=7).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    ours = create(name, num_classes=7, **TIMM_SWITCHES).double()
    load_timm(ours, theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("name", ["nf_resnet26", "nf_resnet50", "nf_resnet101"])
def test_outputs_equal_timms(name: str) -> None:
    theirs, ours = pair(name)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)


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
