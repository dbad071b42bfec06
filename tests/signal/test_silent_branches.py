"""Branches whose last gain starts near zero: named, and measured with gains of 1."""

from collections.abc import Callable

import pandas as pd
import pytest
import torch
from small_networks import Block, Branch, images
from torch import Tensor, nn

from nfrepro.models import create
from nfrepro.signal import propagation


class Gained(nn.Module):
    def __init__(self, gain: Tensor) -> None:
        super().__init__()
        self.f, self.gain = Branch(), nn.Parameter(gain)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gain * self.f(x)


@pytest.mark.parametrize(
    ("gain", "is_silent"),
    [
        (torch.zeros(()), True),
        (torch.zeros(1), True),
        (torch.full((8, 1, 1), 1e-6), True),
        (torch.full((), 1e-6), True),
        (torch.full((8, 1, 1), 0.5), False),
        (torch.ones(()), False),
    ],
)
def test_silent_branches_are_named_and_heard_with_unit_gains(gain: Tensor, is_silent: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Gained(gain.clone()), Block())
    assert propagation(model, images()).attrs["silent"] == (["1"] if is_silent else [])
    heard = propagation(model, images(), with_unit_gains=True)
    assert heard.attrs["silent"] == []
    assert torch.equal(model[1].gain, gain)
    if is_silent:
        model[1].gain.data.fill_(1.0)
        pd.testing.assert_frame_equal(heard, propagation(model, images()))


def test_silent_branches_of_declared_blocks() -> None:
    at_start = create("nf_resnet", blocks=[1, 2], width=0.125, num_classes=4)
    assert propagation(at_start, images(64)).attrs["silent"] == ["stages.0.0", "stages.1.0", "stages.1.1"]
    heard = propagation(at_start, images(64), with_unit_gains=True)
    assert heard.attrs["silent"] == []
    for name, parameter in at_start.named_parameters():
        if name.endswith("skip_gain"):
            parameter.data.fill_(1.0)
    pd.testing.assert_frame_equal(heard, propagation(at_start, images(64)))


@pytest.mark.parametrize(("scalar", "is_silent"), [(1e-5, True), (0.5, False)])
@pytest.mark.parametrize(
    "add", [lambda x, f, a: torch.add(x, f, alpha=a), lambda x, f, a: x.sub(f, alpha=a), torch.lerp]
)
def test_the_scalar_of_the_addition_itself_may_silence_a_branch(
    add: Callable[[Tensor, Tensor, float], Tensor], scalar: float, is_silent: bool
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Block(lambda x, f: add(x, f, scalar)))
    assert propagation(model, images()).attrs["silent"] == (["1"] if is_silent else [])
