"""Signal propagation against hooks and numpy in float64: blocks, stages, modes, memory, errors."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from authors_weights import read_npz
from small_networks import Block, Branch, Loop, check, images, moments
from torch import Tensor, nn
from torch.profiler import profile

from nfrepro.errors import InputError
from nfrepro.models import create
from nfrepro.models.haiku import load_haiku
from nfrepro.signal import DeclaredBlock, propagation

COLUMNS = ["block", "stage", "transition", "avg_sq_mean", "avg_var", "res_var"]


REFERENCE = Path(__file__).parents[1] / "reference"


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


class Declared(DeclaredBlock):
    def __init__(self) -> None:
        super().__init__()
        self.f, self.alpha = Branch(), 0.2

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x + self.residual_branch(x, self.alpha) + x)

    def residual_branch(self, x: Tensor, branch_scale: float = 1.0) -> Tensor:
        return branch_scale * self.f(x)


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
            residual, x = block.f(x), block(x)
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
        monkeypatch.setitem(propagation.__globals__, "DeclaredBlock", type("Unknown", (nn.Module,), {}))
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
            r"matches no module's whole name in Loop, did you mean bran",
        ),
        (Loop(), images(), {"blocks": "xyz"}, r"its modules are stem; .*more\)"),
        (Loop(), images(), {"blocks": "("}, "is not a regular expression"),
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


def test_pandas_is_imported_when_it_is_needed() -> None:
    code = "import sys, nfrepro.signal; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
