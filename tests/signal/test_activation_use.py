"""Active, always-on and dead units against counts by hand, however an activation is called."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.models import create
from nfrepro.signal import activation_use

SHARES = ["active", "coactive", "always_on", "dead"]
SMALL = {"blocks": [1, 2], "stem": "small", "num_classes": 5, "in_channels": 3}


def images(count: int = 6, channels: int = 3, pixels: int = 4) -> Tensor:
    return torch.randn(count, channels, pixels, pixels, generator=torch.Generator().manual_seed(2))


def counted(numbers: Tensor) -> list[float]:
    """The four shares, unit by unit and pair by pair."""
    units = numbers.detach().numpy().reshape(len(numbers), -1).T > 0
    pairs = list(itertools.combinations(range(len(numbers)), 2))
    coactive = [np.mean([unit[one] and unit[other] for one, other in pairs]) for unit in units]
    active = [unit.mean() for unit in units]
    return [float(np.mean(found)) for found in (active, coactive, units.all(1), ~units.any(1))]


class Calls(nn.Module):
    """A network whose only activation is `function`."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x)) * 2.0


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (F.relu, "relu"),
        (F.relu_, "relu"),
        (torch.relu, "relu"),
        (lambda x: x.relu(), "relu"),
        (lambda x: F.relu(input=x, inplace=True), "relu"),
        (torch.ops.aten.relu.default, "relu"),
        (nn.ReLU(inplace=True), "relu"),
        (nn.LeakyReLU(), "leaky_relu"),
        (nn.PReLU(), "prelu"),
        (nn.ELU(), "elu"),
        (nn.SiLU(inplace=True), "silu"),
        (nn.GELU(approximate="tanh"), "gelu"),
        (nn.Softplus(), "softplus"),
        (nn.Hardswish(), "hardswish"),
    ],
)
def test_shares_however_an_activation_is_called(function: Callable[[Tensor], Tensor], name: str) -> None:
    torch.manual_seed(0)
    model, x = Calls(function), images()
    (row,) = activation_use(model, x).to_dict("records")
    assert [row[share] for share in SHARES] == pytest.approx(counted(model.conv(x)), rel=1e-12)
    assert (row["layer"], row["function"]) == (1, name)
    assert row["module"] == ("function" if isinstance(function, nn.Module) else "")


def test_units_that_never_switch() -> None:
    model, x = Calls(F.relu), images()
    with torch.no_grad():
        model.conv.weight.zero_()
        model.conv.weight[3, 0] = model.conv.weight[4, 0] = 1.0
        model.conv.bias.copy_(torch.tensor([1.0, -1.0, 0.0, 0.0, 0.0]))
    (row,) = activation_use(model, x).to_dict("records")
    switching = counted(x[:, :1])
    # One channel is on, two are off (zero is not positive), two see the first channel of the images.
    expected = [0.4 * share + addition for share, addition in zip(switching, (0.2, 0.2, 0.2, 0.4), strict=True)]
    assert [row[share] for share in SHARES] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("bn_resnet", "stages.0.0.norm0", "final_norm"),
        ("nf_resnet", "stages.0.0", ""),
        ("unnormalized_resnet", "stages.0.0.norm0", "final_norm"),
        ("skipinit_resnet", "stages.0.0.norm0", "final_norm"),
    ],
)
def test_networks_of_this_package_have_three_a_block_and_a_last_one(name: str, first: str, last: str) -> None:
    torch.manual_seed(0)
    found = activation_use(create(name, **SMALL, width=0.125), images(pixels=8))
    assert found["layer"].tolist() == list(range(1, 11))
    assert (found["module"].iloc[0], found["module"].iloc[-1]) == (first, last)
    assert set(found["function"]) == {"relu"}


@pytest.mark.parametrize("name", ["bn_resnet", "nf_resnet"])
def test_noise_through_a_network_without_a_mean_shift_tosses_a_coin(name: str) -> None:
    torch.manual_seed(0)
    found = activation_use(create(name, **SMALL, width=0.5), images(count=32, pixels=16))
    first = found.iloc[0]  # of 32 * 16 * 16 * 32 numbers in front of the first activation
    assert first["active"] == pytest.approx(0.5, abs=0.01)
    assert first["coactive"] == pytest.approx(0.25, abs=0.01)
    assert (found["always_on"] + found["dead"]).max() < 0.05


def test_a_mean_shift_fixes_units() -> None:
    torch.manual_seed(0)
    x = images(count=16, pixels=8)
    fixed = {
        name: activation_use(create(name, **SMALL, width=0.25), x)[["always_on", "dead"]].sum(axis=1).iloc[-3:].mean()
        for name in ("nf_resnet", "unnormalized_resnet")
    }
    assert fixed["unnormalized_resnet"] > 3 * fixed["nf_resnet"]


def test_only_the_modules_asked_for() -> None:
    torch.manual_seed(0)
    model = create("bn_resnet", **SMALL, width=0.125)
    everything = activation_use(model, images(pixels=8))
    some = activation_use(model, images(pixels=8), layers=r"stages\.1\..*\.norm0")
    assert some["module"].tolist() == ["stages.1.0.norm0", "stages.1.1.norm0"]
    assert some["active"].tolist() == everything.set_index("module")["active"][some["module"]].tolist()


def test_the_model_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    model = create("bn_resnet", **SMALL, width=0.125, dropout=0.5, stochastic_depth=0.5).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    activation_use(model, images(pixels=8))
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def exploding() -> nn.Module:
    model = Calls(F.relu)
    nn.init.constant_(model.conv.weight, 3e38)
    return model


@pytest.mark.parametrize(
    ("model", "count", "layers", "message"),
    [
        (lambda: Calls(F.relu), 1, None, "two images or more"),
        (lambda: Calls(torch.tanh), 2, None, "no rectifying activation was called in Calls"),
        (lambda: Calls(F.relu), 2, "conv", "no rectifying activation in modules that layers='conv' matches"),
        (
            lambda: Calls(F.relu),
            2,
            "cnv",
            "layers='cnv' matches no module's whole name in Calls, did you mean conv",
        ),
        (exploding, 2, None, r"the numbers before relu 1 \(in the model itself\) are not finite"),
    ],
)
def test_bad_input_is_a_line(model: Callable[[], nn.Module], count: int, layers: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        activation_use(model(), 10 * images(count), layers=layers)
    assert "\n" not in str(raised.value)
