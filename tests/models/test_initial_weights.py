"""Initial weights of every layer of every family: as the authors' code draws them, or as the option says."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from nfrepro.models import create

# Variance of a unit normal cut at two deviations, by its closed form.
CUT = 1 - 2 * 2 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))
HAIKU = CUT  # variance times fan-in of Haiku's default, whose deviation is from before the cut

# Family and options -> variance times fan-in of its convolutions, of squeeze-excite, and of the classifier's weights.
# Read off the authors' code: VarianceScaling(1, fan_in, normal) in base.py; Haiku's defaults where they say nothing.
CASES: dict[str, tuple[str, dict[str, Any], float, float | None, float]] = {
    "nf_resnet": ("nf_resnet", {}, 1.0, None, 0.01**2),
    "nf_resnet, he": ("nf_resnet", {"convolution": "he"}, 2 / (1), None, 0.01**2),
    "nf_resnet, ours in squeeze-excite": ("nf_resnet", {"squeeze_excite": "end"}, 1.0, 1.0, 0.01**2),
    "nf_resnet, the authors' squeeze-excite": (
        "nf_resnet",
        {"squeeze_excite": "end", "squeeze_excite_init": "haiku"},
        1.0,
        HAIKU,
        0.01**2,
    ),
    "bn_resnet": ("bn_resnet", {}, 1.0, None, 0.0),
    "bn_resnet, he": ("bn_resnet", {"conv_init": "he"}, 2.0, None, 0.0),
    "bn_resnet, the authors'": ("bn_resnet", {"conv_init": "haiku"}, HAIKU, None, 0.0),
    "bn_resnet v1, the authors'": ("bn_resnet", {"conv_init": "haiku", "order": "v1"}, HAIKU, None, 0.0),
    "skipinit_resnet": ("skipinit_resnet", {}, HAIKU, None, 0.0),
    "unnormalized_resnet": ("unnormalized_resnet", {}, 2.0, None, 0.0),
    "nf_regnet": ("nf_regnet_b0", {}, 1.0, 1.0, 0.0),
    "nf_regnet, the authors' squeeze-excite": ("nf_regnet_b0", {"squeeze_excite_init": "haiku"}, 1.0, HAIKU, 0.0),
    "nfnet": ("nfnet_f0", {"width": 0.25, "group_width": 16}, 1.0, 1.0, 0.01**2),
    "nfnet, the authors' squeeze-excite": (
        "nfnet_f0",
        {"width": 0.25, "group_width": 16, "squeeze_excite_init": "haiku"},
        1.0,
        HAIKU,
        0.01**2,
    ),
}


def network(name: str, options: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    small = {"blocks": [2, 1], "width": 0.5} if "resnet" in name else {}
    return create(name, num_classes=200, **small, **options)


def has_variance(weight: torch.Tensor, expected: float) -> bool:
    """Within five standard errors, those of a normal: the cut makes them smaller."""
    error = expected * math.sqrt(2 / weight.numel())
    return abs(float(weight.detach().double().square().mean()) - expected) <= 5 * error + 1e-12


@pytest.mark.parametrize("case", CASES)
def test_every_layer_has_the_moments_of_its_distribution(case: str) -> None:
    name, options, of_convolutions, of_gates, of_classifier = CASES[case]
    model = network(name, options)
    gates = {f"{path}.fc{number}" for path, _ in model.named_modules() for number in (0, 1)}
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            assert has_variance(module.weight, of_convolutions / module.weight[0].numel()), path
        elif isinstance(module, nn.Linear):
            expected = of_gates / module.in_features if path in gates and of_gates else of_classifier
            assert has_variance(module.weight, expected), path
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            assert not module.bias.any(), path


def test_efficientnets_begin_as_torchvisions() -> None:
    for path, module in network("efficientnet_b0", {}).named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight[:, 0].numel()  # torch's: output channels of all groups
            assert has_variance(module.weight, 2 / fan_out), path
        elif isinstance(module, nn.Linear):
            end = module.out_features**-0.5
            assert 0.98 * end < float(module.weight.detach().abs().max()) <= end
            assert has_variance(module.weight, end**2 / 3), path


def test_the_classifier_of_fully_connected_networks_keeps_the_variance() -> None:
    linear = network("fully_connected", {"width": 512}).linear
    assert isinstance(linear, nn.Linear)
    assert has_variance(linear.weight, 1 / linear.in_features)


@pytest.mark.parametrize("case", ["bn_resnet, the authors'", "skipinit_resnet", "bn_resnet"])
def test_weights_are_cut_at_two_deviations(case: str) -> None:
    name, options, scale, _, _ = CASES[case]
    for module in network(name, options).modules():
        if isinstance(module, nn.Conv2d):
            end = 2 * math.sqrt(scale / CUT / module.weight[0].numel())
            largest = float(module.weight.detach().abs().max())
            assert 0.98 * end < largest <= end * (1 + 1e-6)


def test_fixup_shrinks_by_the_number_of_blocks() -> None:
    """Normal, with the deviations of fixup_resnet.py: by the width that comes out, times L^(-1/4); the stem is
    Haiku's default."""
    model = network("fixup_resnet", {})
    blocks = [block for stage in model.stages for block in stage]  # type: ignore[union-attr]
    shrink = len(blocks) ** -0.5
    assert has_variance(model.initial_conv.weight, HAIKU / model.initial_conv.weight[0].numel())
    for block in blocks:
        width, channels = block.conv1.out_channels, block.conv2.out_channels
        assert has_variance(block.conv0.weight, shrink * 2 / width)
        assert has_variance(block.conv1.weight, shrink * 2 / (9 * width))
        assert not block.conv2.weight.any()
        if block.conv_shortcut is not None:
            assert has_variance(block.conv_shortcut.weight, 2 / channels)
        scalars = {name: float(value) for name, value in block.named_parameters() if value.ndim == 0}
        assert scalars.pop("multiplier") == 1.0
        assert set(scalars.values()) == {0.0}
    assert not model.linear.weight.any()  # type: ignore[union-attr]


def test_skipinit_has_a_bias_everywhere_but_in_the_stem() -> None:
    model = network("skipinit_resnet", {})
    without = [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d) and module.bias is None]
    assert without == ["initial_conv"]
