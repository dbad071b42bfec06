"""The channels of an activation are found wherever functions of torch put them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nfrepro.signal import propagation

X = torch.randn(2, 3, 6, 10, generator=torch.Generator().manual_seed(1))
CHANNELS = 8

# A view of maps [N, C, H, W], and where it has the channels.
VIEWS: dict[str, tuple[Callable[[Tensor], Tensor], int, str]] = {
    "as it is": (lambda x: x, 1, "[N, C, H, W]"),
    "permute": (lambda x: x.permute(0, 2, 3, 1), 3, "[N, H, W, C]"),
    "permute, copied": (lambda x: x.permute(0, 2, 3, 1).contiguous(), 3, "[N, H, W, C]"),
    "movedim": (lambda x: x.movedim(1, -1), 3, "[N, H, W, C]"),
    "moveaxis of the others": (lambda x: torch.moveaxis(x, (2, 3), (1, 2)), 3, "[N, H, W, C]"),
    "swapdims": (lambda x: torch.swapdims(x, 1, 2), 2, "[N, H, C, W]"),
    "flatten": (lambda x: x.flatten(2), 1, "[N, C, T]"),
    "flatten, mT": (lambda x: x.flatten(2).mT, 2, "[N, T, C]"),
    "flatten, transpose": (lambda x: x.flatten(2).transpose(1, 2), 2, "[N, T, C]"),
    "reshape, swapaxes": (lambda x: x.reshape(len(x), CHANNELS, -1).swapaxes(-1, -2), 2, "[N, T, C]"),
    "permute, reshape": (lambda x: x.permute(0, 2, 3, 1).reshape(len(x), -1, CHANNELS), 2, "[N, T, C]"),
    "windows": (
        lambda x: x.permute(0, 2, 3, 1).unflatten(1, (3, 2)).unflatten(3, (5, 2)).transpose(2, 3).reshape(-1, 4, 8),
        2,
        "[N, T, C]",
    ),
    "rows": (lambda x: x.permute(0, 2, 1, 3).flatten(0, 1), 1, "[N, C, T]"),
    "channels first of all": (lambda x: x.transpose(0, 1).flatten(2), 0, "[C, N, T]"),
}


class Viewed(nn.Module):
    """A residual addition in another view of the activation than the layers see."""

    def __init__(self, view: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.view = view
        self.stem, self.f = nn.Conv2d(3, CHANNELS, 1), nn.Sequential(nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.view(x) + self.view(self.f(x))


def statistics(x: Tensor, channel_dim: int) -> tuple[float, float]:
    values = x.double().movedim(channel_dim, -1).flatten(0, -2).numpy()
    return float((values.mean(0) ** 2).mean()), float(values.var(0).mean())


@pytest.mark.parametrize("name", VIEWS)
def test_channels_are_followed_through_views(name: str) -> None:
    view, channel_dim, layout = VIEWS[name]
    torch.manual_seed(0)
    model = Viewed(view)
    with torch.no_grad():
        x = model.stem(X)
        branch = model.f(x)
    table = propagation(model, X)
    # In every view the statistics are those of the maps.
    assert table["res_var"][0] == pytest.approx(statistics(branch, 1)[1], rel=1e-5)
    np.testing.assert_allclose(table[["avg_sq_mean", "avg_var"]].iloc[0], statistics(x + branch, 1), rtol=1e-5)
    assert table.attrs["layouts"] == [layout]
    assert layout[1 + 3 * channel_dim] == "C"


def test_a_view_between_two_blocks_begins_no_stage() -> None:
    torch.manual_seed(0)

    class Two(Viewed):
        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            x = x + self.f(x)
            return self.view(x) + self.view(self.f(x))

    for view in (VIEWS["permute"][0], VIEWS["permute, reshape"][0], VIEWS["windows"][0]):
        table = propagation(Two(view), X)
        assert table["stage"].tolist() == [1, 1]
        assert table["transition"].tolist() == [True, False]


class MixesTokens(nn.Module):
    """A linear layer over positions in the stream itself, as no shortcut passes it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.f = nn.Linear(5, 8), nn.Linear(12, 12), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(self.embed(x).transpose(1, 2)).transpose(1, 2)
        return x + self.f(x)


def test_a_linear_layer_over_positions_leaves_channels_where_they_are() -> None:
    torch.manual_seed(0)
    model, x = MixesTokens(), torch.randn(3, 12, 5)
    with torch.no_grad():
        mixed = model.mix(model.embed(x).mT).mT
        branch = model.f(mixed)
    table = propagation(model, x)
    assert table["res_var"][0] == pytest.approx(statistics(branch, 2)[1], rel=1e-5)
    np.testing.assert_allclose(table[["avg_sq_mean", "avg_var"]].iloc[0], statistics(mixed + branch, 2), rtol=1e-5)
    assert table.attrs["layouts"] == ["[N, T, C]"]


class AttentionWithoutShortcut(nn.Module):
    """Attention in the stream itself, its heads taken apart in the two usual ways; then a residual block."""

    def __init__(self, over_channels: bool) -> None:
        super().__init__()
        self.over_channels = over_channels
        self.embed, self.qkv, self.out = nn.Linear(5, 8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.f = nn.Linear(8, 8)

    def attention(self, x: Tensor) -> Tensor:
        heads = self.qkv(x).reshape(*x.shape[:2], 3, 2, 4)
        if self.over_channels:
            q, k, v = heads.permute(2, 0, 3, 4, 1)
            return self.out(((q @ k.mT).softmax(-1) @ v).permute(0, 3, 1, 2).reshape(x.shape))
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).reshape(x.shape))

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(self.embed(x))
        return x + self.f(x)


@pytest.mark.parametrize("over_channels", [False, True])
def test_channels_are_known_again_behind_attention(over_channels: bool) -> None:
    torch.manual_seed(0)
    model, x = AttentionWithoutShortcut(over_channels), torch.randn(3, 12, 5)
    with torch.no_grad():
        stream = model.attention(model.embed(x))
        branch = model.f(stream)
    table = propagation(model, x)
    assert table["res_var"][0] == pytest.approx(statistics(branch, 2)[1], rel=1e-5)
    assert table["avg_var"][0] == pytest.approx(statistics(stream + branch, 2)[1], rel=1e-5)
