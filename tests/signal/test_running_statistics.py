"""Layers that keep running statistics, in any form, are measured as they normalize in training."""

import pytest
import timm
import torch
from torch import Tensor, nn

from nfrepro.signal import propagation


class Standardizes(nn.Module):
    """A BatchNorm of its own making, that keeps its statistics where `keep` puts them."""

    def __init__(self, keep: str) -> None:
        super().__init__()
        if keep == "buffer":
            self.register_buffer("running_var", torch.full((8,), 25.0))
        else:
            self.running_var = torch.full((8,), 25.0)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            var = x.var((0, 2, 3), unbiased=False)
            self.running_var = 0.9 * self.running_var + 0.1 * var
        else:
            var = self.running_var
        return x / (var + 1e-8).sqrt()[:, None, None]


class Block(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(8, 8, 1), norm)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


NORMS = {
    "batch": lambda: nn.BatchNorm2d(8),
    "synchronized": lambda: nn.SyncBatchNorm(8),
    "instance": lambda: nn.InstanceNorm2d(8),
    "instance with running statistics": lambda: nn.InstanceNorm2d(8, track_running_stats=True),
    "timm's with activation": lambda: timm.layers.BatchNormAct2d(8, apply_act=False),
    "own, in a buffer": lambda: Standardizes("buffer"),
    "own, in an attribute": lambda: Standardizes("attribute"),
}


@pytest.mark.parametrize("name", NORMS)
def test_the_branch_has_the_variance_that_its_norm_gives_it(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Block(NORMS[name]()))
    norm = model[1].f[1]
    before = {key: value.clone() for key, value in vars(norm).items() if isinstance(value, Tensor)}
    before |= {key: value.clone() for key, value in norm.named_buffers()}
    x = torch.randn(4, 3, 16, 16) * 0.2
    assert propagation(model, x)["res_var"][0] == pytest.approx(1.0, abs=0.01)
    for key, value in before.items():
        assert torch.equal(getattr(norm, key), value), key
    assert model.training


def test_running_statistics_are_used_where_they_are_asked_for() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 16, 16) * 0.2
    for name in ("instance with running statistics", "own, in a buffer"):
        model = nn.Sequential(nn.Conv2d(3, 8, 1), Block(NORMS[name]()))
        with torch.no_grad():
            expected = model.eval()[1].f(model[0](x)).var((0, 2, 3), unbiased=False).mean()
        found = propagation(model, x, batch_statistics=False)["res_var"][0]
        assert found == pytest.approx(float(expected), rel=1e-5), name
