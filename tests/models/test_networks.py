"""The networks as a whole: sizes, shapes, variance at initialisation, and what they refuse."""

import math
import pickle
import subprocess
import sys
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from nfrepro.models import create
from nfrepro.models.nf_resnet import NFBlock, NFResNet
from nfrepro.models.options import DEPTHS
from nfrepro.signal import expected_variance


def millions(model: nn.Module) -> float:
    return round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2)


@pytest.mark.parametrize(
    ("depth", "expected"), [(50, 25.56), (101, 44.55), (152, 60.19), (200, 64.67), (288, 146.46), (600, 300.65)]
)
def test_parameters_equal_the_authors_code(depth: int, expected: float) -> None:
    with torch.device("meta"):
        nf, bn = create(f"nf_resnet{depth}"), create(f"bn_resnet{depth}")
    assert millions(nf) == expected
    assert millions(bn) == pytest.approx(expected, abs=0.011)


@pytest.mark.parametrize("family", ["nf_resnet", "bn_resnet"])
@pytest.mark.parametrize(("stem", "sizes"), [("imagenet", [8, 4, 2, 1]), ("small", [32, 16, 8, 4])])
def test_stages_have_the_papers_widths_and_strides(family: str, stem: str, sizes: list[int]) -> None:
    model: Any = create(family, depth=26, width=0.25, stem=stem, num_classes=7)
    x = model.forward_stem(torch.randn(2, 3, 32, 32))
    assert x.shape[1] == 16
    for stage, size, width in zip(model.stages, sizes, [64, 128, 256, 512], strict=True):
        x = stage(x)
        assert x.shape == (2, width, size, size)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("depth", DEPTHS)
def test_depth_counts_layers(depth: int) -> None:
    with torch.device("meta"):
        model: Any = create("nf_resnet", depth=depth)
    convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    layers = len([name for name in convolutions if "shortcut" not in name]) + 1
    assert layers == (depth + 2 if depth in (288, 600) else depth)  # the paper leaves stem and classifier out there


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_variance_at_initialisation_follows_the_ledger(alpha: float) -> None:
    # Claim C16, where zero padding and sampling cost little; the SkipInit scalar is 1, or there would be no branch.
    torch.manual_seed(0)
    blocks = (3, 3, 3)
    model: Any = create("nf_resnet", blocks=blocks, width=0.5, alpha=alpha, skipinit_gain=1.0, stem="small")
    measured = []
    with torch.no_grad():
        x = model.forward_stem(torch.randn(2, 3, 64, 64))
        for stage in model.stages:
            for block in stage:
                x = block(x)
                measured.append(x.var((0, 2, 3), correction=0).mean().item())
    expected = [block.output_variance for stage in expected_variance(blocks, alpha) for block in stage]
    assert measured == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("activation", ["relu", "silu", "tanh"])
def test_block_is_its_formula(activation: str) -> None:
    # x + alpha * skip_gain * conv2(gamma act(conv1(gamma act(conv0(gamma act(x) / beta))))), scales on activations.
    model: Any = create(
        "nf_resnet", blocks=[2, 2], width=0.125, activation=activation, skipinit_gain=0.75, gamma="exact"
    ).double()
    x = torch.randn(2, 32, 6, 6, dtype=torch.float64)
    block: NFBlock = model.stages[0][1]
    act = {"relu": torch.relu, "silu": lambda t: t * torch.sigmoid(t), "tanh": torch.tanh}[activation]
    gamma, beta = block.gamma, math.sqrt(1 + 0.2**2)
    out = block.conv0(gamma * act(x) / beta)
    out = block.conv2(gamma * act(block.conv1(gamma * act(out))))
    torch.testing.assert_close(block(x), x + 0.2 * 0.75 * out, rtol=1e-12, atol=1e-12)
    transition: NFBlock = model.stages[1][0]
    entering = gamma * act(x) / math.sqrt(1 + 2 * 0.2**2)
    out = transition.conv2(gamma * act(transition.conv1(gamma * act(transition.conv0(entering)))))
    expected = transition.conv_shortcut(entering) + 0.2 * 0.75 * out
    torch.testing.assert_close(transition(x), expected, rtol=1e-12, atol=1e-12)


def test_zero_skipinit_gain_makes_other_blocks_the_identity() -> None:
    model: Any = create("nf_resnet", blocks=[2], width=0.125)
    x = torch.randn(2, 32, 6, 6)
    assert torch.equal(model.stages[0][1](x), x)


def test_no_image_sees_another_in_an_nf_net() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    for family, equal in (("nf_resnet", True), ("bn_resnet", False)):
        model = create(family, blocks=[1, 1], width=0.125, num_classes=5, stem="small").double()
        if family == "bn_resnet":
            nn.init.normal_(model.linear.weight)  # type: ignore[union-attr, arg-type]
        alone = torch.cat([model(x[i : i + 1]) for i in range(4)])
        assert torch.allclose(model(x), alone, rtol=1e-9) == equal


def test_classifier_starts_as_in_the_authors_code() -> None:
    assert create("nf_resnet50").linear.weight.std().item() == pytest.approx(0.01, rel=0.02)  # type: ignore[union-attr, operator]
    assert not create("bn_resnet50").linear.weight.any()  # type: ignore[union-attr, operator]


def test_copies_and_pickles() -> None:
    model = create("nf_resnet", blocks=[1, 1], width=0.125)
    x = torch.randn(1, 3, 32, 32)
    expected = model(x)
    for copy in (deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in copy.state_dict().items())
        torch.testing.assert_close(copy(x), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nf_resnt50", {}, "unknown model 'nf_resnt50', did you mean nf_resnet?"),
        ("nf_resnet50", {"alhpa": 0.2}, "nf_resnet50: unknown option 'alhpa', did you mean alpha?"),
        ("nf_resnet51", {}, "depth 51 has no table of blocks"),
        ("nf_resnet", {"blocks": [1], "depth": 50}, r"blocks \[1\] make 5 layers, but depth is 50"),
        ("nf_resnet", {"alpha": -1.0}, "nf_resnet: alpha: .*greater than or equal to 0"),
        ("nf_resnet", {"activation": "rleu"}, "nf_resnet: activation: .*'relu'"),
        ("bn_resnet", {"alpha": 0.2}, "bn_resnet: unknown option 'alpha'"),
        ("nf_resnet", {"num_classes": 0}, "num_classes and in_channels must be at least 1, not 0 and 3"),
    ],
)
def test_bad_calls_are_refused_by_name(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        create(name, **options)
    assert "\n" not in str(caught.value)


def test_images_of_another_shape_are_refused_with_the_numbers() -> None:
    model = create("nf_resnet50", width=0.125)
    assert isinstance(model, NFResNet)
    with pytest.raises(ValueError, match=r"images must be \[N, 3, H, W\], got \[1, 1, 32, 32\]"):
        model(torch.randn(1, 1, 32, 32))


def test_the_compiler_is_imported_when_it_is_needed() -> None:
    """To import it takes longer than all the rest together, and torchvision's models import it."""
    make = "nfrepro.models.create('nf_resnet50', width=0.0625)"
    code = f"import sys, nfrepro.models; {make}; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
