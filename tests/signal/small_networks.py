"""Small residual networks, and the statistics of their activations by numpy in float64."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn


def images(pixels: int = 16, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, pixels, pixels, generator=torch.Generator().manual_seed(1))


def moments(x: Tensor) -> tuple[float, float]:
    values = x.detach().double().numpy()
    return float((values.mean((0, 2, 3)) ** 2).mean()), float(values.var((0, 2, 3)).mean())


def check(table: pd.DataFrame, expected: list[tuple[float, float, float]], rel: float = 2e-6) -> None:
    found = table[["avg_sq_mean", "avg_var", "res_var"]].to_numpy()
    np.testing.assert_allclose(found, np.array(expected), rtol=rel, atol=1e-13)
    assert list(table["block"]) == list(range(1, len(expected) + 1))


class Branch(nn.Sequential):
    def __init__(self, channels: int = 8) -> None:
        super().__init__(nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1))


class Block(nn.Module):
    """shortcut + f(x), added as `add` says."""

    def __init__(self, add: Callable[[Tensor, Tensor], Tensor] = lambda x, f: x + f) -> None:
        super().__init__()
        self.f, self.add = Branch(), add

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.f(x))


class Loop(nn.Module):
    """Additions in the forward of the network itself."""

    def __init__(self, add: Callable[[Tensor, Tensor], Tensor] = lambda x, f: x + f, depth: int = 3) -> None:
        super().__init__()
        self.stem, self.add = nn.Conv2d(3, 8, 3, padding=1), add
        self.branches = nn.ModuleList(Branch() for _ in range(depth))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for branch in self.branches:
            x = self.add(x, branch(x))
        return self.head(x.mean((2, 3)))
