"""An activation of one's own in every family: the network that a built-in activation gives, and its exact gamma."""

import re
from typing import Any

import pytest
import torch

from nfrepro.errors import InputError
from nfrepro.models import create
from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.options import FAMILIES
from tests.plugins.conftest import Write

SILU = "import torch\ndef silu(x):\n    return x * torch.sigmoid(x)\n"
SMALL: dict[str, dict[str, Any]] = {
    "nf_regnet": {"variant": "b0"},
    "bn_regnet": {"variant": "b0"},
    "nfnet": {"variant": "f0", "width": 0.125, "group_width": 16},
    "gn_ws_resnet": {"blocks": [1, 1], "width": 0.125, "stem": "small", "norm_groups": 4},
    "fully_connected": {"depth": 2, "width": 8, "pixels": 32},
}
WITH_ACTIVATION = [name for name, options in FAMILIES.items() if "activation" in options.model_fields]


def small(family: str, **options: Any) -> torch.nn.Module:
    sizes = SMALL.get(family, {"blocks": [1, 1], "width": 0.125, "stem": "small"})
    torch.manual_seed(0)
    return create(family, num_classes=4, **sizes, **options).eval()


@pytest.mark.parametrize("family", WITH_ACTIVATION)
def test_a_network_takes_it_as_it_takes_a_built_in_one(project: Write, family: str) -> None:
    project("own_silu.py", SILU)
    exact = {"gamma": "exact"} if "gamma" in FAMILIES[family].model_fields else {}
    own = small(family, activation="own_silu:silu")  # no constant is published for it
    built_in, other = small(family, activation="silu", **exact), small(family, activation="relu", **exact)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        for network in (own, built_in, other):  # a classifier of zeros would show nothing
            network.linear.weight.fill_(0.1)  # type: ignore[operator, union-attr]
        torch.testing.assert_close(own(x), built_in(x), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(own(x), other(x), rtol=1e-2)


def test_its_gain_is_exact(project: Write) -> None:
    project("own_cube.py", "def cube(x):\n    return x**3\n")
    assert ACTIVATIONS["own_cube:cube"].gamma("published") == pytest.approx(15**-0.5, rel=1e-9)  # E z^6
    assert ACTIVATIONS["own_cube:cube"].gamma("none") == 1.0
    assert ACTIVATIONS["torch.nn:Mish"].gamma("exact") == pytest.approx(ACTIVATIONS["mish"].gamma("exact"), rel=1e-9)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return x.relu_()", "writes over its input, which skip paths need"),
        ("return x.softmax(1)", "is random or not elementwise"),
        ("return x - x.mean()", "is random or not elementwise"),
        ("return x[:, :1]", "one of the same shape"),
        ("return 3", "one of the same shape"),
        ("return x.no_such()", "AttributeError"),
    ],
)
def test_what_has_no_gain_of_one_number_is_refused(project: Write, body: str, says: str) -> None:
    project("own_wrong.py", f"def f(x):\n    {body}\n")
    with pytest.raises(InputError, match=f"own_wrong:f: .*{re.escape(says)}"):
        small("nf_resnet", activation="own_wrong:f")


def test_a_module_that_learns_is_refused() -> None:
    with pytest.raises(InputError, match="has parameters"):
        small("nf_resnet", activation="torch.nn:PReLU")


@pytest.mark.parametrize(
    ("name", "says"), [("own_nowhere:f", "no module own_nowhere"), ("rellu", "'identity', 'relu'")]
)
def test_a_name_that_is_nowhere_is_refused(name: str, says: str) -> None:
    with pytest.raises(InputError, match=f"nf_resnet: activation: .*{says}"):
        small("nf_resnet", activation=name)
