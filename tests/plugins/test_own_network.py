"""Networks from elsewhere: made by name, trained by the same recipe as those of this package."""

import re
from typing import Any

import pytest
import timm
import timm.optim
import torch
from torch import nn

from nfrepro.errors import InputError
from nfrepro.models import create
from nfrepro.models.cost import count_cost
from nfrepro.models.own_options import OwnNetworkOptions
from nfrepro.models.registry import parse_options
from nfrepro.training.agc import clipped_parameters
from nfrepro.training.optim import parameter_groups
from tests.plugins.conftest import Write

NETS = """\
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, width=8, in_channels=3):
        super().__init__()
        # Names that say the opposite of what the modules are.
        self.norm_bias = nn.Conv2d(in_channels, width, 3)
        self.weight = nn.GroupNorm(2, width)
        self.conv = nn.LayerNorm([width, 6, 6])
        self.scale = nn.Parameter(nn.init.ones_(nn.Conv2d(1, 1, 1).bias.data.new_empty(width, 1, 1)))
        self.gain = nn.Parameter(self.scale.data.new_ones(width))
        self.bn = nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.scale * self.conv(self.weight(self.norm_bias(x)))
        return self.bn((x * self.gain[:, None, None]).mean((2, 3)))
"""


def own(project: Write, **options: Any) -> nn.Module:
    project("own_roles.py", NETS)
    return create("own_roles:Net", num_classes=5, in_channels=1, **options)


def test_a_class_of_ones_own_gets_classes_channels_and_options(project: Write) -> None:
    model = own(project, width=4)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 5)


def test_timm_and_torchvision_are_known_by_name() -> None:
    torch.manual_seed(0)
    ours = create("timm:resnet10t", num_classes=7, in_channels=1, drop_rate=0.5)
    torch.manual_seed(0)
    theirs = timm.create_model("resnet10t", num_classes=7, in_chans=1, drop_rate=0.5)
    for (name, one), (_, other) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert torch.equal(one, other), name
    assert create("torchvision:resnet18", num_classes=3)(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("timm:convnext_atom", {}, "timm has no network convnext_atom, did you mean convnext_"),
        ("timm:resnet10t", {"no_such": 1}, "timm:resnet10t: .*unexpected keyword argument 'no_such'"),
        ("timm:resnet10t", {"pretrained": True}, "option pretrained is set by the run itself"),
        ("own_roles:Net", {"widht": 3}, r"unexpected option widht, did you mean width\?"),
        ("own_roles:Nets", {}, r"has no Nets, did you mean Net\?"),
        ("own_returns:make", {}, "returned int, not an nn.Module"),
    ],
)
def test_what_cannot_be_made_is_one_line(project: Write, name: str, options: dict[str, Any], says: str) -> None:
    project("own_roles.py", NETS)
    project("own_returns.py", "def make(num_classes):\n    return 3\n")
    with pytest.raises(InputError, match=says) as caught:
        create(name, **options)
    assert "\n" not in str(caught.value)


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=re.escape("timm is not installed: pip install timm")):
        parse_options("timm:resnet10t", {})


def names_of(model: nn.Module, parameters: Any) -> set[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)] for parameter in parameters}


def test_decay_goes_by_modules_not_by_names(project: Write) -> None:
    model = own(project)
    decayed, free = (names_of(model, group["params"]) for group in parameter_groups(model, 0.1))
    assert decayed == {"norm_bias.weight", "bn.weight", "scale"}
    assert decayed | free == names_of(model, model.parameters())
    assert not decayed & free


def test_decay_of_a_timm_network_is_timms_own_rule() -> None:
    model = timm.create_model("convnext_atto", num_classes=3)
    decayed, _ = (names_of(model, group["params"]) for group in parameter_groups(model, 0.1))
    theirs = timm.optim.param_groups_weight_decay(model, 0.1)
    assert decayed == names_of(model, next(group["params"] for group in theirs if group["weight_decay"]))


def test_the_classifier_is_not_clipped(project: Write) -> None:
    model = own(project)
    assert names_of(model, model.parameters()) - names_of(model, clipped_parameters(model)) == {"bn.weight", "bn.bias"}
    network = timm.create_model("convnext_atto", num_classes=3)
    kept = names_of(network, network.parameters()) - names_of(network, clipped_parameters(network))
    assert kept == {"head.fc.weight", "head.fc.bias"}


def test_its_cost_is_counted(project: Write) -> None:
    project("own_roles.py", NETS)
    cost = count_cost(OwnNetworkOptions(name="own_roles:Net", options={"width": 4}), 5, 1, 8)
    assert cost.multiply_adds == 36 * 9 * 4 + 4 * 5
    assert cost.parameters == (9 * 4 + 4) + 8 + 2 * 4 * 36 + 4 + 4 + (4 * 5 + 5)


def test_a_network_that_looks_at_its_numbers_is_counted_too(project: Write) -> None:
    project(
        "own_looks.py",
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__()\n"
        "        self.linear = torch.nn.Linear(48, num_classes)\n"
        "    def forward(self, x):\n"
        "        assert x.abs().max().item() < 9\n"
        "        return self.linear(x.flatten(1))\n",
    )
    options = OwnNetworkOptions(name="own_looks:Net")
    assert count_cost(options, 5, 3, 4).multiply_adds == 48 * 5
    with pytest.raises(
        InputError, match=r"own_looks:Net: its cost cannot be counted: with images \[3, 3, 8, 8\] it raises"
    ):
        count_cost(options, 5, 3, 8)
