"""Signal propagation against hooks and numpy in float64, on networks of all kinds."""

import copy
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.profiler import profile

from nfrepro.errors import InputError
from nfrepro.models import create
from nfrepro.models.haiku import load_haiku, read_npz
from nfrepro.signal import propagation

COLUMNS = ["block", "stage", "transition", "avg_sq_mean", "avg_var", "res_var"]
REFERENCE = Path(__file__).parents[1] / "reference"


def images(pixels: int = 16, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, pixels, pixels, generator=torch.Generator().manual_seed(1))


def moments(x: Tensor) -> tuple[float, float]:
    values = x.detach().double().numpy()
    return float((values.mean((0, 2, 3)) ** 2).mean()), float(values.var((0, 2, 3)).mean())


def by_hooks(
    model: nn.Module, x: Tensor, is_block: Callable[[nn.Module], bool], branch: Callable[[Any], tuple[nn.Module, Any]]
) -> list[tuple[float, float, float]]:
    """The statistics of a copy of `model`: `branch(block)` is the module that ends it, and what scales its output."""
    model = copy.deepcopy(model).eval()
    outputs, residuals = [], []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
        if is_block(module):
            end, scale = branch(module)
            end.register_forward_hook(lambda _m, _i, out, scale=scale: residuals.append(moments(out * scale)[1]))
            module.register_forward_hook(lambda _m, _i, out: outputs.append(moments(out)))
    with torch.no_grad():
        model(x)
    return [(*output, residual) for output, residual in zip(outputs, residuals, strict=True)]


def check(table: pd.DataFrame, expected: list[tuple[float, float, float]], rel: float = 2e-6) -> None:
    found = table[["avg_sq_mean", "avg_var", "res_var"]].to_numpy()
    np.testing.assert_allclose(found, np.array(expected), rtol=rel, atol=1e-13)
    assert list(table["block"]) == list(range(1, len(expected) + 1))


def scrambled(model: nn.Module) -> nn.Module:
    """No gain is 0 or 1, so that all of them matter."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim < 2:
            parameter.data.uniform_(0.5, 1.5, generator=generator)
    return model


# name -> is a block; the end of its branch
PEERS: dict[str, tuple[Callable[[], nn.Module], str, Callable[[Any], tuple[nn.Module, Any]], list[int]]] = {
    "torchvision resnet50": (torchvision.models.resnet50, "Bottleneck", lambda b: (b.bn3, 1.0), [3, 4, 6, 3]),
    "torchvision regnet": (
        torchvision.models.regnet_y_400mf,
        "ResBottleneckBlock",
        lambda b: (b.f, 1.0),
        [1, 3, 6, 6],
    ),
    "torchvision convnext": (
        torchvision.models.convnext_tiny,
        "CNBlock",
        lambda b: (b.block, b.layer_scale),
        [3, 3, 9, 3],
    ),
    "timm resnet26": (lambda: timm.create_model("resnet26"), "Bottleneck", lambda b: (b.bn3, 1.0), [2, 2, 2, 2]),
    "timm nf_resnet26": (
        lambda: timm.create_model("nf_resnet26"),
        "NormFreeBlock",
        lambda b: (b.conv3, 1.0),
        [2, 2, 2, 2],
    ),
    "timm nf_regnet_b0": (
        lambda: timm.create_model("nf_regnet_b0"),
        "NormFreeBlock",
        lambda b: (b.conv3, 1.0),
        [1, 3, 6, 6],
    ),
    "timm dm_nfnet_f0": (
        lambda: timm.create_model("dm_nfnet_f0"),
        "NormFreeBlock",
        lambda b: (b.attn_last, b.attn_gain),
        [1, 2, 6, 3],
    ),
    "timm regnety_002": (
        lambda: timm.create_model("regnety_002"),
        "Bottleneck",
        lambda b: (b.conv3, 1.0),
        [1, 1, 4, 7],
    ),
    "timm convnext_atto": (
        lambda: timm.create_model("convnext_atto", drop_path_rate=0.5),
        "ConvNeXtBlock",
        lambda b: (b.mlp, b.gamma[:, None, None]),
        [2, 2, 6, 2],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_equals_hooks_on_other_peoples_networks(name: str) -> None:
    make, block, branch, stages = PEERS[name]
    torch.manual_seed(0)
    model, x = scrambled(make()), images(64)
    table = propagation(model, x)
    check(table, by_hooks(model, x, lambda module: type(module).__name__ == block, branch))
    assert list(table["stage"].value_counts(sort=False)) == stages
    firsts = [sum(stages[:stage]) for stage in range(len(stages))]
    assert [number for number, transition in enumerate(table["transition"]) if transition] == firsts


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


def test_stages_and_transitions() -> None:
    class Transition(nn.Module):
        def __init__(self, channels: int, stride: int, kernel: int = 3) -> None:
            super().__init__()
            self.f = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, channels, kernel, stride, padding=kernel // 2))
            self.shortcut = nn.Conv2d(8, channels, 1, stride)

        def forward(self, x: Tensor) -> Tensor:
            return self.f(x) + self.shortcut(x)

    model = nn.Sequential(nn.Conv2d(3, 8, 1), Block(), Transition(8, 2), Block(), Transition(8, 1), Transition(6, 1))
    table = propagation(model, images())
    assert list(table["stage"]) == [1, 2, 2, 2, 3]
    assert list(table["transition"]) == [True, True, False, True, True]


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


class Declared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f, self.alpha = Branch(), 0.2

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_branch(x)[0]

    def forward_with_branch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        residual = self.f(x)
        return torch.tanh(x + self.alpha * residual + x), residual


class DeclaredNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.stages = nn.ModuleList([nn.Sequential(Declared(), Declared()), nn.Sequential(Declared())])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x


def test_declared_blocks() -> None:
    model = DeclaredNetwork()
    expected = []
    with torch.no_grad():
        x = model.stem(images())
        for block in [*model.stages[0], *model.stages[1]]:
            x, residual = block.forward_with_branch(x)
            expected.append((*moments(x), moments(residual)[1]))
    table = propagation(model, images())
    check(table, expected)
    assert list(table["stage"]) == [1, 1, 2]
    assert list(table["transition"]) == [True, False, True]
    # Elsewhere nothing tells where a stage ends.
    table = propagation(nn.Sequential(nn.Conv2d(3, 8, 1), Declared(), Block(), Declared()), images())
    assert list(table["stage"]) == [1, 1, 1]
    assert table.attrs["modules"] == ["1", "2", "3"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file"), [("nf_resnet50", "nf_resnet50_relu"), ("bn_resnet50", "resnet50_bn")])
@pytest.mark.parametrize("declared", [True, False])
def test_statistics_equal_the_authors(name: str, file: str, declared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = REFERENCE / f"{file}.npz"
    model = create(name, width=0.25, num_classes=10).double()
    load_haiku(model, *read_npz(path))
    data = np.load(path)
    x = torch.from_numpy(data["input"].astype(np.float64)).permute(0, 3, 1, 2)
    table = propagation(model, x)
    expected = [
        tuple(float(data[f"output/{key}"]) for key in (f"avg_sq_mean_{k}", f"avg_var_{k}", f"res_avg_var_{k - 1}"))
        for k in range(1, 17)
    ]
    if not declared:
        # Found by their additions, blocks show the branch as it is added, since alpha is in its last weight.
        kinds = type(model.stages[0][0]).__mro__
        monkeypatch.delattr(next(kind for kind in kinds if "forward_with_branch" in vars(kind)), "forward_with_branch")
        table = propagation(model, x)
        expected = [(*row[:2], found) for row, found in zip(expected, table["res_var"], strict=True)]
    check(table, expected, rel=1e-4)
    assert list(table["stage"]) == [1] * 3 + [2] * 4 + [3] * 6 + [4] * 3
    assert [k for k, transition in zip(table["block"], table["transition"], strict=True) if transition] == [1, 4, 8, 14]


@pytest.mark.parametrize("family", ["nf_resnet", "bn_resnet", "skipinit_resnet", "fixup_resnet"])
def test_every_family_of_ours(family: str) -> None:
    model = create(family, blocks=[1, 2], width=0.125, num_classes=4)
    table = propagation(model, images(64))
    assert table.attrs["modules"] == ["stages.0.0", "stages.1.0", "stages.1.1"]
    assert list(table["transition"]) == [True, True, False]


def test_chosen_blocks() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Block(), nn.Sequential(Block(), nn.ReLU()), Declared())
    table = propagation(model, images(), blocks=r"0|2|2\.0|3")
    assert table.attrs["modules"] == ["0", "2.0", "2", "3"]
    found = propagation(model, images())
    assert np.isnan(table["res_var"][0])
    assert list(table["res_var"][1:]) == [found["res_var"][1]] * 2 + [found["res_var"][2]]
    assert table["avg_var"][1] == found["avg_var"][1]
    with torch.no_grad():
        assert table["avg_var"][2] == pytest.approx(moments(model[:3](images()))[1], rel=1e-6)


def test_batch_norm_by_batch_or_running_statistics() -> None:
    class Normed(Block):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))

    model = nn.Sequential(nn.Conv2d(3, 8, 1), Normed(), nn.Dropout(0.5), Normed())
    by_batch = propagation(model, images())
    assert by_batch["res_var"].to_numpy() == pytest.approx(1.0, abs=0.01)
    running = propagation(model, images(), batch_statistics=False)
    with torch.no_grad():
        x = model[:1](images())
        assert running["res_var"][0] == pytest.approx(moments(model.eval()[1].f(x))[1], rel=1e-6)


class Counting(nn.BatchNorm2d):
    """Keeps statistics of its own making."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.running_mean += 1
            self.num_batches_tracked = self.num_batches_tracked + 1
        return super().forward(x)


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("out of order")


@pytest.mark.parametrize("end", [nn.Identity, Fails])
def test_leaves_everything_as_it_was(end: Callable[[], nn.Module]) -> None:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn(x.shape)

    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), Counting(8), nn.BatchNorm2d(8), Noise(), Block(), DeclaredNetwork().stages
    )
    model[5] = nn.Sequential(Declared(), Declared())
    own = model[5][1].forward
    model[5][1].forward = own  # an instance may have a forward of its own
    model.append(end())
    model[2].eval()
    model[4].f.eval()
    hook = model[4].register_forward_hook(lambda *_: None)

    def state() -> list[Any]:
        return [
            (
                id(module),
                module.training,
                dict(module._forward_hooks),
                dict(module._forward_pre_hooks),
                module.__dict__.get("forward"),
                getattr(module, "track_running_stats", None),
                {name: (id(buffer), buffer.tolist()) for name, buffer in module._buffers.items()},
                sorted(module.__dict__),
            )
            for module in model.modules()
        ]

    before, random = state(), torch.get_rng_state()
    if end is Fails:
        with pytest.raises(RuntimeError, match="out of order"):
            propagation(model, images())
    else:
        assert len(propagation(model, images())) == 3
    assert state() == before
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()
    assert hook.id in model[4]._forward_hooks


def test_is_off_for_stochastic_depth_and_dropout() -> None:
    def dropped(x: Tensor, f: Tensor) -> Tensor:
        return x + drop(f)

    drop = torchvision.ops.StochasticDepth(0.9, "row")
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Dropout(0.9), Block(dropped))
    model[2].drop = drop
    pd.testing.assert_frame_equal(propagation(model, images()), propagation(model, images()))
    with torch.no_grad():
        expected = moments(model[2].f(model[0](images())))[1]
    assert propagation(model, images())["res_var"][0] == pytest.approx(expected, rel=1e-6)


def peak_memory(function: Callable[[], Any]) -> int:
    with profile(profile_memory=True) as recorded:
        function()
    live = highest = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            highest = max(highest, live)
    return highest


@pytest.mark.parametrize("make", [lambda n: Loop(depth=n), lambda n: nn.Sequential(nn.Conv2d(3, 8, 1), *[Block()] * n)])
def test_memory_does_not_grow_with_depth(make: Callable[[int], nn.Module]) -> None:
    x = images(128)
    activation = x.numel() // 3 * 8 * 4
    shallow, deep = (peak_memory(lambda depth=depth: propagation(make(depth), x)) for depth in (3, 30))
    assert deep - shallow < activation / 2
    bare = peak_memory(lambda: make(3).requires_grad_(False)(x))
    assert shallow - bare < 1.5 * activation


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_floating_types(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Block(), Block(lambda x, f: x + 0.2 * f))
    expected = propagation(model, images())
    found = propagation(model.to(dtype), images().to(dtype))
    for column in COLUMNS[3:]:
        assert found[column].to_numpy() == pytest.approx(expected[column].to_numpy(), rel=0.02)


@pytest.mark.parametrize(
    ("model", "x", "options", "message"),
    [
        (Loop(), torch.zeros(8, 8), {}, r"x must be images \[N, C, H, W\], sequences .* got \[8, 8\]"),
        (nn.Conv2d(3, 8, 1), images(), {}, "no residual blocks in Conv2d.*blocks="),
        (
            Loop(),
            images(),
            {"blocks": r"branches\.7"},
            r"matches the whole name of no module of Loop, did you mean bran",
        ),
        (Loop(), images(), {"blocks": "xyz"}, r"its modules are stem; .*more\)"),
        (Loop(), images(), {"blocks": "("}, "is no regular expression"),
        (Loop(), images(), {"blocks": "branches"}, "was called in the forward pass"),
        (Loop(), images(), {"blocks": "head"}, r"must be \[N, C, H, W\] or \[N, T, C\], got \[2, 5\] in head"),
        (Loop(), images() * float("nan"), {}, r"avg_sq_mean of block 1 \(the model itself\) is nan"),
        (
            nn.Sequential(nn.Conv2d(3, 8, 1), Block(), Block(lambda x, f: x + f * float("inf"))),
            images(),
            {},
            r"of block 2 \(2\) is (nan|inf)",
        ),
    ],
)
def test_errors(model: nn.Module, x: Tensor, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        propagation(model, x, **options)
    assert "\n" not in str(caught.value)


def test_sums_of_parts_that_are_never_joined_are_refused() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = Branch()

        def forward(self, x: Tensor) -> Tensor:
            return x.chunk(2)[0] + self.f(x).chunk(2)[0]

    with pytest.raises(InputError, match="1 residual additions of Sequential are of parts of the batch"):
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
    "five dimensions": (lambda x, f: (x.unsqueeze(1) + f.unsqueeze(1)).squeeze(1), "of 5-D activations"),
}


@pytest.mark.parametrize("how", HIDDEN)
def test_an_addition_that_is_seen_but_not_measured_is_refused(how: str) -> None:
    add, reason = HIDDEN[how]
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Block(), Block(add))
    with pytest.raises(InputError, match=f"1 residual additions of Sequential cannot be measured .*{reason}"):
        propagation(model, images())
    assert propagation(model, images(), blocks="1|2").attrs["modules"] == ["1", "2"]


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


def test_pandas_is_imported_when_it_is_needed() -> None:
    code = "import sys, nfrepro.signal; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
