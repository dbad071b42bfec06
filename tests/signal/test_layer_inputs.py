"""Moments of layers' inputs against numpy in float64, and their shifts against closed forms."""

import copy
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.models import create
from nfrepro.signal import layer_inputs, moment_shift

SMALL = {"blocks": [1, 2], "width": 0.125, "stem": "small", "num_classes": 5, "in_channels": 3}


def images(count: int = 6, channels: int = 3, pixels: int = 8) -> Tensor:
    return torch.randn(count, channels, pixels, pixels, generator=torch.Generator().manual_seed(2)) + 0.5


def of_channels(values: Tensor, dim: int) -> np.ndarray:
    """Mean and variance, [channels, 2]."""
    rows = np.moveaxis(values.detach().double().numpy(), dim, -1).reshape(-1, values.shape[dim])
    return np.stack([rows.mean(0), rows.var(0)], 1)


class Shared(nn.Module):
    """One convolution called twice, a layer that is never called, and tokens in front of a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.unused = nn.Conv2d(3, 3, 1)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        once = F.relu(self.conv(x))
        twice = self.conv(input=once)
        return self.head(twice.flatten(2).transpose(1, 2))


def test_every_channel_of_every_layer() -> None:
    torch.manual_seed(0)
    model, x = Shared(), images()
    once = F.relu(model.conv(x))
    tokens = model.conv(once).flatten(2).transpose(1, 2)
    found = layer_inputs(model, x)
    assert list(found.columns) == ["layer", "module", "channel", "mean", "variance"]
    assert found["layer"].tolist() == [1] * 3 + [2] * 3
    assert found["module"].tolist() == ["conv"] * 3 + ["head"] * 3
    assert found["channel"].tolist() == [0, 1, 2] * 2
    expected = np.concatenate([of_channels(torch.cat([x, once]), 1), of_channels(tokens, -1)])
    np.testing.assert_allclose(found[["mean", "variance"]], expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["bn_resnet", "nf_resnet", "unnormalized_resnet", "fixup_resnet"])
def test_networks_of_this_package(name: str) -> None:
    torch.manual_seed(0)
    model, x = create(name, **SMALL), images()
    reference = copy.deepcopy(model).eval()
    expected: dict[str, np.ndarray] = {}
    for module_name, module in reference.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
        if isinstance(module, nn.Conv2d | nn.Linear):
            dim = 1 if isinstance(module, nn.Conv2d) else -1
            module.register_forward_pre_hook(
                lambda _m, inputs, key=module_name, dim=dim: expected.update({key: of_channels(inputs[0], dim)})
            )
    with torch.no_grad():
        reference(x)
    found = layer_inputs(model, x)
    assert list(dict.fromkeys(found["module"])) == list(expected)
    values = found[["mean", "variance"]].to_numpy()
    np.testing.assert_allclose(values, np.concatenate(list(expected.values())), rtol=1e-5, atol=1e-9)
    assert found["module"].iloc[-1] == "linear"


def test_only_the_layers_asked_for_and_running_statistics() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)), images()
    normalized = layer_inputs(model, x, layers="2")
    assert set(normalized["module"]) == {"2"}
    np.testing.assert_allclose(normalized["mean"], 0, atol=1e-6)
    np.testing.assert_allclose(normalized["variance"], 1, rtol=1e-3)
    running = layer_inputs(model, x, layers="2", batch_statistics=False)
    plain = of_channels(model[0](x), 1)
    np.testing.assert_allclose(running[["mean", "variance"]], plain / [1, 1 + 1e-5], rtol=1e-4)


def test_the_model_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    model, x = create("bn_resnet", **SMALL, dropout=0.5).train(), images()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    layer_inputs(model, x)
    assert model.training
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def moments(mean: list[float], variance: list[float]) -> pd.DataFrame:
    count = len(mean)
    return pd.DataFrame(
        {"layer": [1] * count, "module": ["conv"] * count, "channel": range(count), "mean": mean, "variance": variance}
    )


def test_shifts_by_hand() -> None:
    before = moments([0.0, 1.0, 0.0, 0.0, 3.0], [1.0, 4.0, 0.0, 0.0, 1e-20])
    after = moments([0.5, 1.0, 2.0, 0.0, 4.0], [1.0, 16.0, 2.0, 0.0, 0.0])
    (row,) = moment_shift(before, after).to_dict("records")
    # Channel 2 wakes, channel 3 sleeps, channel 4 is constant up to rounding: the last two have no shift.
    assert row["mean_shift"] == pytest.approx((0.5 + 0.0 + 2.0) / 3)
    assert row["std_shift"] == pytest.approx((0.0 + math.log(2)) / 2)
    assert row["constant"] == pytest.approx(3 / 5)
    assert (row["layer"], row["module"]) == (1, "conv")


def test_a_layer_without_any_living_channel_has_no_shift() -> None:
    dead = moments([0.0, 0.0], [0.0, 0.0])
    (row,) = moment_shift(dead, dead).to_dict("records")
    assert math.isnan(row["mean_shift"])
    assert math.isnan(row["std_shift"])
    assert row["constant"] == 1.0


numbers = st.floats(-10, 10)
variances = st.floats(0.01, 10)


@settings(max_examples=50)
@given(st.lists(st.tuples(numbers, variances, numbers, variances), min_size=1, max_size=4), st.floats(0.1, 10))
def test_units_order_and_signs_do_not_matter(channels: list[tuple[float, ...]], unit: float) -> None:
    mean, variance, other_mean, other_variance = (list(values) for values in zip(*channels, strict=True))
    before, after = moments(mean, variance), moments(other_mean, other_variance)
    expected = moment_shift(before, after)
    in_units = [
        moments([-unit * value for value in table["mean"]], [unit**2 * value for value in table["variance"]])
        for table in (before, after)
    ]
    for found in (moment_shift(after, before), moment_shift(*in_units)):
        np.testing.assert_allclose(found["mean_shift"], expected["mean_shift"], rtol=1e-9)
        np.testing.assert_allclose(found["std_shift"], expected["std_shift"], rtol=1e-9, atol=1e-12)
    assert (moment_shift(before, before)[["mean_shift", "std_shift", "constant"]] == 0).all(axis=None)


def test_moving_the_inputs_moves_the_first_layer_by_as_much() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, 4, 1)), images()
    std = x.double().var((0, 2, 3), correction=0).sqrt()
    moved = x + (0.25 * std).float()[:, None, None]
    (row,) = moment_shift(layer_inputs(model, x), layer_inputs(model, moved)).to_dict("records")
    assert row["mean_shift"] == pytest.approx(0.25, rel=1e-5)
    assert row["std_shift"] == pytest.approx(0.0, abs=1e-6)


def exploding() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    nn.init.constant_(model[0].weight, 3e38)
    return model


@pytest.mark.parametrize(
    ("model", "layers", "message"),
    [
        (lambda: nn.ReLU(), None, "no convolution or linear layer was called in ReLU"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), "1", "no convolution .* that layers='1' matches"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 1)), "conv", "layers='conv' matches no module's whole name"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 1)), "(", r"layers='\(' is not a regular expression"),
        (exploding, None, r"inputs of layer 2 \(1\) are not finite"),
    ],
)
def test_bad_input_is_a_line(model: Callable[[], nn.Module], layers: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        layer_inputs(model(), images(), layers=layers)
    assert "\n" not in str(raised.value)


def test_tables_of_different_networks_are_refused() -> None:
    with pytest.raises(InputError, match="moments of different layers cannot be compared"):
        moment_shift(moments([0.0], [1.0]), moments([0.0, 0.0], [1.0, 1.0]))
