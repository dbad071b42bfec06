"""Signal propagation of torchvision's and timm's residual networks, with their stages, against hooks."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from small_networks import check, images, moments
from torch import Tensor, nn

from nfrepro.signal import propagation


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
