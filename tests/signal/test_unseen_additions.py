"""Additions that cannot be seen or measured are refused with the reason."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_networks import Block, Branch, images
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.signal import propagation


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_blocks_around_what_cannot_be_seen() -> None:
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x**3

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            raise NotImplementedError

    scripted = torch.jit.script(Branch())
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Block(lambda x, f: x + Cube.apply(f)), scripted, Block(), Block())
    assert propagation(model, images()).attrs["modules"] == ["1", "3", "4"]


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch.jit is deprecated, yet used
    SCRIPTED_SUM = torch.jit.trace(torch.add, (torch.ones(2, 8, 16, 16), torch.ones(2, 8, 16, 16)))


HIDDEN: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "baddbmm": (
        lambda x, f: torch.baddbmm(x.flatten(0, 1), f.flatten(0, 1), torch.eye(16).expand(16, 16, 16)).view_as(x),
        r"made by baddbmm\(\)",
    ),
    "addcdiv": (lambda x, f: torch.addcdiv(x, f, torch.full((1,), 5.0)), r"made by addcdiv\(\)"),
    "foreach": (lambda x, f: torch._foreach_add([x], [f])[0], r"made by _foreach_add\(\)"),
    "einsum": (lambda x, f: torch.einsum("knchw->nchw", torch.stack([x, f])), r"over a stack, made by einsum\(\)"),
    "tensordot": (
        lambda x, f: torch.tensordot(torch.tensor([1.0, 0.2]), torch.stack([x, f]), dims=1),
        r"over a stack, made by tensordot\(\)",
    ),
    "weights of a stack": (
        lambda x, f: (torch.tensor([1.0, 0.2]).view(2, 1, 1, 1, 1) * torch.stack([x, f])).sum(0),
        r"over a stack, made by sum\(\)",
    ),
    "mean of three": (lambda x, f: torch.stack([x, f, f.relu()]).mean(0), r"over a stack, made by mean\(\)"),
    "a scripted function": (SCRIPTED_SUM, "perhaps made at the end of 2 by a function that cannot be seen"),
    "vmap": (torch.vmap(torch.add), "perhaps made at the end of 2 by a function that cannot be seen"),
    "a scripted function, then another": (lambda x, f: SCRIPTED_SUM(x, f).relu(), "perhaps made at the end of 2"),
    "index_add": (
        lambda x, f: x.index_add(0, torch.arange(2), f),
        r"made by index_add\(\)",
    ),
    "positions flattened": (
        lambda x, f: (x.movedim(1, 3).reshape(-1, 8) + f.movedim(1, 3).reshape(-1, 8)).view(2, 16, 16, 8).movedim(3, 1),
        "of 2-D activations",
    ),
    "five dimensions": (lambda x, f: (x.unsqueeze(1) + f.unsqueeze(1)).squeeze(1), "of 5-D activations"),
}


@pytest.mark.parametrize("how", HIDDEN)
def test_an_addition_that_is_seen_but_not_measured_is_refused(how: str) -> None:
    add, reason = HIDDEN[how]
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Block(), Block(add))
    with pytest.raises(InputError, match=f"1 residual additions of Sequential cannot be measured .*{reason}"):
        propagation(model, images())
    assert propagation(model, images(), blocks="1|2").attrs["modules"] == ["1", "2"]


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("compiled", [torch.jit.script, lambda block: torch.jit.trace(block, torch.ones(2, 8, 16, 16))])
def test_a_scripted_module_with_residual_additions_is_named(compiled: Callable[[nn.Module], nn.Module]) -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = Branch()

        def forward(self, x: Tensor) -> Tensor:
            return x + self.f(x)

    class Gelu(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.045 * x**3)))

    fine = nn.Sequential(nn.Conv2d(3, 8, 1), compiled(nn.Sequential(Branch(), Gelu())), Block())
    assert propagation(fine, images()).attrs["modules"] == ["2"]
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Block(), compiled(nn.Sequential(Branch(), Plain())))
    with pytest.raises(
        InputError, match=r"^2 in Sequential is a scripted module \(torch.jit\) with residual additions"
    ):
        propagation(model, images())
    assert propagation(model, images(), blocks="1").attrs["modules"] == ["1"]
