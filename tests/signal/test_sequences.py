"""Signal propagation in transformers: attention, class tokens, positions, outputs of any form."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from small_networks import Block, check, images, moments
from torch import Tensor, nn

from nfrepro.signal import propagation


def test_channels_may_be_last() -> None:
    torch.manual_seed(0)
    model = torchvision.models.swin_t(weights=None)
    table = propagation(model, images(64))
    outputs: list[tuple[float, float]] = []
    for module in model.modules():
        if type(module).__name__ == "SwinTransformerBlock":
            module.register_forward_hook(lambda _m, _i, out: outputs.append(moments(out.permute(0, 3, 1, 2))))
    with torch.no_grad():
        model.eval()(images(64))
    np.testing.assert_allclose(table[["avg_sq_mean", "avg_var"]].to_numpy()[1::2], outputs, rtol=2e-6)


class RelativePositions(nn.Module):
    """Self-attention whose weights are a sum of two products, as in Transformer-XL, DeBERTa and BoTNet."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.position, self.out = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 8)
        self.table = nn.Parameter(torch.randn(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        weights = q @ k.mT + self.position(q) @ self.table.T
        return self.out((weights / 8**0.5).softmax(-1) @ v)


class ClassAttention(nn.Module):
    """A class token, the same for every image, that attends to the rest, as in CaiT."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.attention = nn.Parameter(torch.randn(1, 1, 8)), RelativePositions()

    def forward(self, x: Tensor) -> Tensor:
        token = self.token.expand(len(x), -1, -1)
        return token + self.attention(torch.cat([token, x[:, 1:]], 1))[:, :1]


class Positions(nn.Module):
    """A position embedding for every image, which a layer has seen, added again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = nn.Linear(8, 8), nn.Linear(8, 8)
        self.table, self.embed = nn.Parameter(torch.randn(1, 16, 5)), nn.Linear(5, 8)

    def forward(self, x: Tensor) -> Tensor:
        positions = self.embed(self.table.expand(len(x), -1, -1))
        x = x + self.f(x + positions)
        return x + self.g(x + positions)


def test_attention_weights_tokens_and_positions() -> None:
    torch.manual_seed(0)

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = RelativePositions()

        def forward(self, x: Tensor) -> Tensor:
            return x + self.f(x)

    model = nn.Sequential(nn.Linear(5, 8), Residual(), Positions(), Residual(), ClassAttention())
    x = torch.randn(3, 16, 5)
    expected = []

    def note(h: Tensor, f: Tensor) -> Tensor:
        expected.append((*moments((h + f).mT[..., None]), moments(f.mT[..., None])[1]))
        return h + f

    with torch.no_grad():
        _, first, positions, second, last = model
        h = model[0](x)
        h = note(h, first.f(h))
        embedded = positions.embed(positions.table)
        h = note(h, positions.f(h + embedded))
        h = note(h, positions.g(h + embedded))
        h = note(h, second.f(h))
        token = last.token.expand(3, -1, -1)
        note(token, last.attention(torch.cat([token, h[:, 1:]], 1))[:, :1])
    table = propagation(model, x)
    assert table.attrs["modules"] == ["1", "2", "2", "3", "4"]
    check(table, expected, rel=1e-5)


def test_a_module_that_makes_positions_for_an_activation_makes_no_block() -> None:
    class Coordinates(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(2, 8)

        def forward(self, x: Tensor) -> Tensor:
            n, _, height, width = x.shape
            rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            return self.embed(torch.stack([rows, columns], -1).float()).permute(2, 0, 1).expand(n, -1, -1, -1)

    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.positions = Coordinates()

        def forward(self, x: Tensor) -> Tensor:
            return x + self.positions(x)

    assert propagation(nn.Sequential(nn.Conv2d(3, 8, 1), Placed(), Block()), images()).attrs["modules"] == ["2"]


class Attention(nn.Module):
    """A transformer layer that returns a tuple, as those of Hugging Face do."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        z = self.norm(x)
        return x + self.attention(z, z, z, need_weights=False)[0], None


class Tokens(nn.Module):
    def __init__(self, embed: nn.Module, layers: int = 2) -> None:
        super().__init__()
        self.embed, self.layers = embed, nn.ModuleList(Attention() for _ in range(layers))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)[0]
        return {"last_hidden_state": x}


@pytest.mark.parametrize("kind", ["images", "sequences", "tokens"])
def test_transformer_layers_that_return_tuples(kind: str) -> None:
    torch.manual_seed(0)
    patches = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Flatten(2))

    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = patches

        def forward(self, x: Tensor) -> Tensor:
            return self.f(x).transpose(1, 2)

    model, x = {
        "images": (Tokens(Patches()), images()),
        "sequences": (Tokens(nn.Linear(5, 8)), torch.randn(3, 7, 5)),
        "tokens": (Tokens(nn.Embedding(11, 8)), torch.randint(11, (3, 7))),
    }[kind]
    expected = []
    with torch.no_grad():
        h = model.eval().embed(x)
        for layer in model.layers:
            z = layer.norm(h)
            f = layer.attention(z, z, z, need_weights=False)[0]
            h = h + f
            as_map = [t.transpose(1, 2)[..., None] for t in (h, f)]
            expected.append((*moments(as_map[0]), moments(as_map[1])[1]))
    table = propagation(model, x)
    check(table, expected)
    assert table.attrs["modules"] == ["layers.0", "layers.1"]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.f = nn.Linear(5, 8), nn.GRU(8, 8, batch_first=True)

    def branch(self, x: Tensor) -> Tensor:
        return self.f(x)[0]

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return x + self.branch(x)


class Experts(nn.Module):
    """Each expert sees some of the tokens; what they return is put together by additions that are no blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.experts = nn.Linear(5, 8), nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def branch(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, 8)
        out = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            chosen = torch.arange(number, len(tokens), 3)
            out.index_add_(0, chosen, expert(tokens[chosen]))
        return out.view_as(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return x + self.branch(x)


@pytest.mark.parametrize("make", [Recurrent, Experts])
def test_recurrent_layers_and_experts(make: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    model, x = make(), torch.randn(3, 7, 5)
    with torch.no_grad():
        h = model.embed(x)
        f = model.branch(h)
    as_map = [t.transpose(1, 2)[..., None] for t in (h + f, f)]
    check(propagation(model, x), [(*moments(as_map[0]), moments(as_map[1])[1])], rel=1e-5)


class WithoutProjection(nn.Module):
    """Attention whose product of matrices is added as it is, and a softmax of the stream that a layer has read."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.g = nn.Linear(8, 24), nn.Linear(8, 8)

    def attention(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return (q @ k.mT).softmax(-1) @ v

    def gated(self, x: Tensor) -> Tensor:
        return self.g(x) * x.softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return (x + self.gated(x)).softmax(-1)


def test_a_softmax_of_the_stream_takes_no_block_away() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 8), WithoutProjection()), torch.randn(3, 7, 5)
    with torch.no_grad():
        h = model[0](x)
        first = model[1].attention(h)
        second = model[1].gated(h + first)
    sums = [(h + first, first), (h + first + second, second)]
    expected = [(*moments(total.mT[..., None]), moments(f.mT[..., None])[1]) for total, f in sums]
    check(propagation(model, x), expected, rel=1e-5)
