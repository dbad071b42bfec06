"""Names that people give on the command line."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from nfrepro.cli.gains import gain_of
from nfrepro.errors import InputError
from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.lookup import find_activation, find_network
from nfrepro.models.options import FAMILIES, NFResNetOptions

Z = torch.linspace(-3, 3, 13, dtype=torch.float64)


def refused(text: str) -> str:
    """The one line that says why `text` names no activation."""
    with pytest.raises(InputError) as caught:
        find_activation(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def network_refused(text: str, **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        find_network(text, settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_activation_of_the_table() -> None:
    for name in ACTIVATIONS:
        assert find_activation(name).name == name
        assert find_activation(name).published_gain == ACTIVATIONS[name].published_gain
    assert torch.equal(find_activation("relu").function(Z), Z.clamp(min=0))


@pytest.mark.parametrize(
    "text",
    [
        "torch.nn.functional:softsign",
        "lambda x: x / (1 + x.abs())",
        " lambda x: F.softsign(x)",
        "torch:nn.Softsign.__call__",
    ],
)
def test_functions_by_import_and_by_text(text: str) -> None:
    found = find_activation(text)
    assert (found.name, found.published_gain) == (text, None)
    if "__call__" not in text:
        torch.testing.assert_close(found.function(Z), Z / (1 + Z.abs()))


def test_a_lambda_sees_torch_functional_and_math() -> None:
    found = find_activation("lambda x: torch.tanh(x) + F.relu(x) * math.pi")
    torch.testing.assert_close(found.function(Z), Z.tanh() + Z.clamp(min=0) * math.pi)


@pytest.mark.parametrize(("text", "nearest"), [("rellu", "relu"), ("Silu", "silu"), ("leakyrelu", "leaky_relu")])
def test_a_wrong_activation_names_the_nearest(text: str, nearest: str) -> None:
    message = refused(text)
    assert f"did you mean {nearest}?" in message
    assert repr(text) in message


def test_a_far_name_lists_what_there_is() -> None:
    message = refused("zzzz")
    assert "did you mean" not in message
    for name in ("relu", "soft_sign", "package.module:callable", "lambda x"):
        assert name in message


@pytest.mark.parametrize("text", ["lambda x: x[", "lambda", "lambda x: (", "lambda x: 1 +\n", "lambda x: x, 3"])
def test_a_wrong_lambda_is_one_line(text: str) -> None:
    assert "is not a Python function" in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "no.such.module:f",
        "torch.nn.functional:no_such",
        "torch:",
        ":relu",
        "math:pi",
        "torch.nn.functional:relu.nothing",
    ],
)
def test_a_wrong_import_is_one_line(text: str) -> None:
    message = refused(text)
    assert message.startswith(f"{text}: ")
    assert message == network_refused(text)


def test_a_relative_import_is_one_line() -> None:
    assert refused(".module:f").startswith(".module:f: ")


@pytest.mark.parametrize("content", ["def (", "1 / 0"], ids=["syntax", "exception"])
def test_a_module_that_cannot_be_imported_is_one_line(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (tmp_path / "broken_module_of_mine.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    assert refused("broken_module_of_mine:f").startswith("broken_module_of_mine:f: ")


def test_what_fails_when_called_has_no_gain_and_a_reason() -> None:
    for text in ("lambda x: x + torch.ones(2, 3, 4)", "lambda: 1", "lambda x: 3", "math:sqrt", "lambda x: x.foo"):
        found = gain_of(find_activation(text))
        assert (found.gamma, found.mean, found.variance) == (None, None, None)
        assert found.problem
        assert "has no usable gain" in found.problem
        assert "0x" not in found.problem.partition("has no")[0]  # no address of a function


def test_an_unknown_name_in_a_lambda_is_a_reason_too() -> None:
    assert "abs" in str(gain_of(find_activation("lambda x: abs(x)")).problem)


def test_our_networks() -> None:
    found = find_network("nf_resnet26", {"width": 0.125, "alpha": 0.5})
    assert isinstance(found.options, NFResNetOptions)
    assert (found.options.depth, found.options.width, found.options.alpha) == (26, 0.125, 0.5)
    torch.manual_seed(0)
    one = found.make()
    torch.manual_seed(0)
    again = found.make()
    assert one is not again
    for name, value in one.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert one(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)
    assert find_network("nf_resnet26", {}, in_channels=1).make().initial_conv.in_channels == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["torchvision:resnet18", "timm:resnet18", "torchvision.models:resnet18"])
def test_networks_of_others(text: str) -> None:
    found = find_network(text, {})
    assert (found.name, found.options) == (text, None)
    model = found.make()
    assert isinstance(model, nn.Module)
    # The ResNet-18 everybody has: 11.69 million parameters.
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_689_512


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("nf_resnt50", "nf_resnet"),
        ("nf_regnt_b0", "nf_regnet"),
        ("torchvision:resnet81", "resnet18"),
        ("timm:nf_resnet05", "nf_resnet50"),
    ],
)
def test_a_wrong_network_names_the_nearest(text: str, nearest: str) -> None:
    assert f"did you mean {nearest}?" in network_refused(text)


def test_a_far_network_lists_the_families() -> None:
    message = network_refused("zzzz")
    for family in FAMILIES:
        assert family in message


def test_wrong_settings_name_the_nearest() -> None:
    assert "did you mean alpha?" in network_refused("nf_resnet50", alhpa=1.0)
    assert network_refused("nf_resnet50", alpha="x").startswith("nf_resnet50: alpha: ")


@pytest.mark.parametrize("text", ["torchvision:resnet18", "timm:resnet18", "torchvision.models:resnet18"])
def test_settings_are_for_our_networks_only(text: str) -> None:
    assert network_refused(text, width=0.5) == f"{text}: model options can be set only for networks of nfrepro"


def test_a_network_by_classes_and_options(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_looked_up.py").write_text(
        "from torch import nn\n"
        "def make(num_classes, width=4, in_channels=3):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, width, 1), nn.Flatten(), nn.LazyLinear(num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    model = find_network("own_looked_up:make", {"width": 5}, in_channels=2).make()
    assert model(torch.zeros(3, 2, 4, 4)).shape == (3, 1000)
    assert model[0].out_channels == 5  # type: ignore[index]
    assert "did you mean width?" in network_refused("own_looked_up:make", widht=5)
