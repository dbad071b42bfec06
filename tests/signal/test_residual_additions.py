"""Residual additions in every form that torch has for them."""

from collections.abc import Callable

import pytest
import torch
from small_networks import Block, Branch, Loop, check, images, moments
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.signal import propagation

COLUMNS = ["block", "stage", "transition", "avg_sq_mean", "avg_var", "res_var"]


def zero() -> Tensor:
    return torch.zeros(())


ADDITIONS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float]] = {
    # how shortcut and branch are added; the scalar in it
    "x + f": (lambda x, f: x + f, 1.0),
    "f + x": (lambda x, f: f + x, 1.0),
    "f += x": (lambda x, f: f.add_(x), 1.0),
    "x.clone() += f": (lambda x, f: x.clone().add_(f), 1.0),
    "torch.add": (lambda x, f: torch.add(x, f), 1.0),
    "alpha": (lambda x, f: torch.add(x, f, alpha=0.2), 0.2),
    "aten": (lambda x, f: torch.ops.aten.add.Tensor(x, f), 1.0),
    "sum": (lambda x, f: sum([x, f]), 1.0),
    "0.2 * f": (lambda x, f: x + 0.2 * f, 0.2),
    "f / 5": (lambda x, f: x + f / 5, 0.2),
    "f *= 0.2": (lambda x, f: x + f.mul_(0.2), 0.2),
    "gain 0": (lambda x, f: x + f * zero(), 0.0),
    "gain 0 in place, alpha": (lambda x, f: x + f.mul_(torch.zeros(1)) * 0.2, 0.0),
    "tiny gain": (lambda x, f: x + 0.5 * (f * 1e-25), 0.5e-25),
    "scale, then copy": (lambda x, f: x + (f * 0.2).clone().contiguous(), 0.2),
    "addcmul": (lambda x, f: torch.addcmul(x, f, torch.tensor(0.2)), 0.2),
    "addcmul, gain 0": (lambda x, f: torch.addcmul(x, zero(), f), 0.0),
    "x - f": (lambda x, f: x - f, -1.0),
    "x.sub": (lambda x, f: x.sub(f * 0.2), -0.2),
    "rsub": (lambda x, f: torch.rsub(f, x), -1.0),
    "stack, sum": (lambda x, f: torch.stack([x, f]).sum(0), 1.0),
    "stack, sum over the last": (lambda x, f: torch.stack((f, x), dim=-1).sum(dim=-1), 1.0),
    "cat, chunk": (lambda x, f: sum(torch.cat([x, f], 1).chunk(2, 1)), 1.0),
    "stack, unbind": (lambda x, f: sum(torch.stack([f, x], 1).unbind(1)), 1.0),
    "cat, view, sum": (lambda x, f: torch.cat([x, f], 1).unflatten(1, (2, -1)).sum(1), 1.0),
    "hstack, chunk": (lambda x, f: sum(torch.hstack([f, x]).chunk(2, 1)), 1.0),
    "a branch by way of a sparse tensor": (lambda x, f: x + f.to_sparse().to_dense(), 1.0),
    "a branch by way of another library": (lambda x, f: x + f.to_mkldnn().to_dense(), 1.0),
    "half a batch at a time": (
        lambda x, f: torch.cat([a + b for a, b in zip(x.chunk(2), f.chunk(2), strict=True)]),
        1.0,
    ),
    "an image at a time": (lambda x, f: torch.cat([x[i : i + 1] + 0.2 * f[i : i + 1] for i in range(len(x))]), 0.2),
}


@pytest.mark.parametrize("network", ["modules", "loop"])
@pytest.mark.parametrize("how", ADDITIONS)
def test_any_way_to_add(how: str, network: str) -> None:
    torch.manual_seed(0)
    add, scalar = ADDITIONS[how]
    if network == "modules":
        model: nn.Module = nn.Sequential(nn.Conv2d(3, 8, 1), *[Block(add) for _ in range(3)], nn.Flatten())
        stem, branches = model[0], [block.f for block in list(model)[1:4]]
        names = ["1", "2", "3"]
    else:
        model = Loop(add)
        stem, branches, names = model.stem, list(model.branches), ["", "", ""]
    expected = []
    with torch.no_grad():
        x = stem(images())
        for branch in branches:
            residual = branch(x)
            x = x + scalar * residual
            expected.append((*moments(x), moments(residual)[1]))
    table = propagation(model, images())
    check(table, expected)
    assert table.attrs["modules"] == names
    assert list(table.columns) == COLUMNS
    assert list(table["stage"]) == [1, 1, 1]
    assert list(table["transition"]) == [True, False, False]


def test_a_gain_per_channel_belongs_to_the_branch() -> None:
    gain = torch.linspace(0.1, 2.0, 8)[:, None, None]
    for add in (lambda x, f: x + gain * f, lambda x, f: torch.addcmul(x, f, gain)):
        model = nn.Sequential(nn.Conv2d(3, 8, 1), Block(add))
        with torch.no_grad():
            expected = moments(gain * model[1].f(model[0](images())))[1]
        assert propagation(model, images())["res_var"][0] == pytest.approx(expected, rel=1e-6)


def test_a_module_that_only_adds_is_no_block() -> None:
    class Add(nn.Module):
        def forward(self, x: Tensor, f: Tensor) -> Tensor:
            return x + f

    assert propagation(nn.Sequential(nn.Conv2d(3, 8, 1), Block(Add())), images()).attrs["modules"] == ["1"]


def test_what_is_no_residual_addition() -> None:
    class Gelu(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.045 * x**3)))

    class Position(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Parameter(torch.randn(2, 8, 16, 16))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.embedding

    model = nn.Sequential(nn.Conv2d(3, 8, 1), Gelu(), Position(), Block(), nn.Conv2d(8, 8, 1))
    assert propagation(model, images()).attrs["modules"] == ["3"]


def test_sums_of_parts_that_are_never_joined_are_refused() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = Branch()

        def forward(self, x: Tensor) -> Tensor:
            return x.chunk(2)[0] + self.f(x).chunk(2)[0]

    with pytest.raises(InputError, match="1 residual additions of Sequential add parts of the batch"):
        propagation(nn.Sequential(nn.Conv2d(3, 8, 1), Half()), images())


def test_a_sum_over_a_stack_of_three_is_two_additions() -> None:
    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f, self.g = Branch(), Branch()

        def forward(self, x: Tensor) -> Tensor:
            f = self.f(x)
            return torch.stack([x, f, self.g(f)]).sum(0)

    model = nn.Sequential(nn.Conv2d(3, 8, 1), Three())
    with torch.no_grad():
        x = model[0](images())
        f = model[1].f(x)
        g = model[1].g(f)
    check(
        propagation(model, images()), [(*moments(x + f), moments(f)[1]), (*moments(x + f + g), moments(g)[1])], rel=1e-5
    )


def test_an_interpolation_is_an_addition() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Block(lambda x, f: torch.lerp(x, f, 0.25)))
    with torch.no_grad():
        x = model[0](images())
        f = model[1].f(x)
    check(propagation(model, images()), [(*moments(0.75 * x + 0.25 * f), moments(f)[1])])


def test_a_token_mixer_that_subtracts_its_input_makes_no_block() -> None:
    mixer = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1))
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Block(lambda x, f: x + (mixer(f) - f)))
    assert len(propagation(model, images())) == 1
