"""Optimizers other than SGD: torch's AdamW, and one's own, on the same parameter groups."""

from typing import Any

import pytest
import torch

from nfrepro.models import create
from nfrepro.training.optim import make_optimizer
from nfrepro.training.options import TrainOptions
from tests.plugins.conftest import Write


def test_adamw_is_torchs_with_our_groups() -> None:
    torch.manual_seed(0)
    model = create("nf_resnet", blocks=[1], width=0.0625, stem="small", num_classes=3)
    options = TrainOptions(
        optimizer="adamw", optimizer_options={"betas": [0.8, 0.9]}, weight_decay=0.1, batch_size=4, epochs=9
    )
    optimizer = make_optimizer(model, options)
    assert type(optimizer) is torch.optim.AdamW
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert decayed["betas"] == (0.8, 0.9)
    weight, gain = decayed["params"][0], free["params"][0]
    before = weight.detach().clone(), gain.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    lr = options.peak_lr  # the first step of Adam is lr in every number
    torch.testing.assert_close(weight.detach(), before[0] * (1 - lr * 0.1) - lr, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gain.detach(), before[1] - lr, rtol=1e-5, atol=1e-7)


def test_an_optimizer_of_ones_own_gets_groups_rate_and_options(project: Write) -> None:
    project(
        "own_opt.py",
        "import torch\ndef make(groups, lr, alpha=0.9):\n    return torch.optim.RMSprop(groups, lr, alpha)\n",
    )
    model = create("nf_resnet", blocks=[1], width=0.0625, stem="small", num_classes=3)
    options = TrainOptions(optimizer="own_opt:make", optimizer_options={"alpha": 0.5}, batch_size=256, epochs=9)
    optimizer = make_optimizer(model, options)
    assert type(optimizer) is torch.optim.RMSprop
    assert {(group["lr"], group["alpha"]) for group in optimizer.param_groups} == {(0.1, 0.5)}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-4, 0.0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"optimizer": "adamw", "optimizer_options": {"beta": 1}},
            r"unexpected option beta of adamw, did you mean betas\?",
        ),
        ({"optimizer": "adamw", "momentum": 0.5}, "momentum: an option of sgd"),
        ({"optimizer": "adam"}, "'sgd'"),
        ({"optimizer_options": {"eps": 1}}, "unexpected option eps of sgd"),
        ({"optimizer": "torch.optim:Adamm"}, "has no Adamm, did you mean Adam"),
    ],
)
def test_optimizers_are_checked(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TrainOptions(epochs=9, **given)
