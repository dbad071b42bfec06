"""EfficientNets against torchvision's own: outputs, costs, initial weights; and what every family promises."""

import math
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nfrepro.models import create
from nfrepro.models.efficientnet_options import VARIANTS
from nfrepro.models.options import test_pixels as pixels_of
from nfrepro.signal import propagation
from nfrepro.training.agc import clipped_parameters
from nfrepro.training.optim import parameter_groups

pytestmark = pytest.mark.slow

# torchvision's documentation: parameters, billions of multiply-adds, side of the test images.
DOCUMENTED = {
    "b0": (5_288_548, 0.386, 224),
    "b1": (7_794_184, 0.687, 240),
    "b2": (9_109_994, 1.088, 288),
    "b3": (12_233_232, 1.827, 300),
    "b4": (19_341_616, 4.394, 380),
    "b5": (30_389_784, 10.266, 456),
}


def unsettle(model: nn.Module) -> None:
    """Moves every parameter and every running average off its initial value, so that all of them matter."""
    generator = torch.Generator().manual_seed(1)
    for value in model.double().state_dict().values():
        if value.is_floating_point():
            value.add_(0.1 * torch.rand(value.shape, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize(("variant", "pixels"), [("b0", 64), ("b1", 33), ("b5", 33)])
def test_outputs_are_torchvisions(variant: str, pixels: int) -> None:
    ours: Any = create(f"efficientnet_{variant}", stochastic_depth=0.0, dropout=0.0)
    theirs = torchvision.models.get_model(f"efficientnet_{variant}", stochastic_depth_prob=0.0, dropout=0.0)
    unsettle(theirs)
    # Both keep layers in order; ours has those of the stem and the classifier at the places where it registers them.
    order = ["initial_conv", "initial_bn", "stages", "final", "linear"]
    names = sorted(ours.double().state_dict(), key=lambda name: order.index(name.partition(".")[0]))
    values = theirs.state_dict().values()
    assert [ours.state_dict()[name].shape for name in names] == [value.shape for value in values]
    ours.load_state_dict(dict(zip(names, values, strict=True)))
    x = torch.randn(2, 3, pixels, pixels, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for mode in (True, False):  # the statistics of the batch, then the running ones, which the first pass moved
        torch.testing.assert_close(ours.train(mode)(x), theirs.train(mode)(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variant", DOCUMENTED)
def test_costs_and_dropout_are_those_documented(variant: Any) -> None:
    parameters, billions, pixels = DOCUMENTED[variant]
    with torch.device("meta"):
        ours: Any = create(f"efficientnet_{variant}").eval()
        theirs: Any = torchvision.models.get_model(f"efficientnet_{variant}")
        with FlopCounterMode(display=False) as counter:
            ours(torch.empty(1, 3, pixels, pixels))
    assert sum(parameter.numel() for parameter in ours.parameters()) == parameters
    assert counter.get_total_flops() / 2e9 == pytest.approx(billions, abs=0.0006)
    assert ours.dropout.p == VARIANTS[variant].dropout == theirs.classifier[0].p
    assert pixels_of(f"efficientnet_{variant}", {}) == VARIANTS[variant].train_pixels == pixels
    rates = [
        [m.p for m in model.modules() if isinstance(m, torchvision.ops.StochasticDepth)] for model in (ours, theirs)
    ]
    assert rates[0] == rates[1]


def test_weights_begin_as_torchvisions() -> None:
    torch.manual_seed(0)
    model: Any = create("efficientnet_b0", in_channels=1, num_classes=400)
    stem, linear = model.initial_conv.weight, model.linear.weight
    assert stem.shape == (32, 1, 3, 3)
    assert stem.std().item() == pytest.approx(math.sqrt(2 / (32 * 9)), rel=0.15)
    assert linear.abs().max().item() == pytest.approx(1 / 20, rel=0.01)
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 400)


def test_width_multiplies_all_channels() -> None:
    with torch.device("meta"):
        half: Any = create("efficientnet_b0", width=0.5)
    assert half.feature_channels == [8, 16, 24, 40, 56, 96, 160]
    assert half.feature_strides == [2, 4, 8, 16, 16, 32, 32]
    assert (half.initial_conv.out_channels, half.linear.in_features) == (16, 640)


def test_weights_decay_and_gradients_are_clipped_as_in_the_other_families() -> None:
    model = create("efficientnet", width=0.25)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    layers = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    decayed, free = ({names[id(p)] for p in group["params"]} for group in parameter_groups(model, 1e-4))  # type: ignore[attr-defined]
    assert decayed == layers
    assert decayed | free == set(names.values())
    clipped = {names[id(parameter)] for parameter in clipped_parameters(model)}
    assert set(names.values()) - clipped == {"linear.weight", "linear.bias"}


def test_its_signal_is_measured_in_the_blocks_that_have_a_shortcut() -> None:
    model: Any = create("efficientnet", width=0.5)
    found = propagation(model, torch.randn(2, 3, 64, 64))
    assert len(found) == sum(block.use_res_connect for stage in model.stages for block in stage) == 9
    # Branches end in BatchNorm.
    assert found["res_var"].between(0.99, 1.0).all()
