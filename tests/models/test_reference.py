"""Our networks against outputs of the authors' own code (tests/reference/README.md)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nfrepro.models import create

REFERENCE = Path(__file__).parents[1] / "reference"
# Authors' module of a block -> ours: haiku numbers the blocks through all stages.
NETWORKS = {
    "nf_resnet50": ("nf_resnet50_relu.npz", "NF_ResNet", "nf_res_block"),
    "bn_resnet50": ("resnet50_bn.npz", "ResNet", "res_block_v2"),
}
OUR_NAMES = {"w": "weight", "b": "bias", "scale": "weight", "offset": "bias"}


def reference(name: str) -> tuple[nn.Module, Any]:
    """Our network with the authors' parameters, in float64, and the authors' file."""
    file, root, block = NETWORKS[name]
    data = np.load(REFERENCE / file)
    model = create(name, width=0.25, num_classes=10)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            parameter.copy_(authors_value(data, root, block, model, parameter_name, parameter))
    model.train("bn" in name)
    return model.double(), data


def authors_value(data: Any, root: str, block: str, model: Any, name: str, parameter: torch.Tensor) -> torch.Tensor:
    module, _, kind = name.replace(".norm.", ".").replace("norm", "bn").rpartition(".")
    if module.startswith("stages."):
        _, stage, index, *rest = module.split(".")
        number = sum(len(s) for s in model.stages[: int(stage)]) + int(index)
        module = "/".join([block + (f"_{number}" if number else ""), *(["~", *rest] if rest else [])])
    candidates = [f"param/{root}/~/{module}/{kind}"]
    candidates += [f"param/{root}/~/{module}/{theirs}" for theirs, ours in OUR_NAMES.items() if ours == kind]
    (key,) = [candidate for candidate in candidates if candidate in data]
    value = torch.from_numpy(data[key].astype(np.float64))
    if value.ndim == 4 and kind == "weight" and "bn" not in module:
        return value.permute(3, 2, 0, 1)
    return value.T if value.ndim == 2 else value.reshape(parameter.shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_pooled_features_equal_the_authors(name: str) -> None:
    model, data = reference(name)
    x = torch.from_numpy(data["input"].astype(np.float64)).permute(0, 3, 1, 2)
    with torch.no_grad():
        pool = model.forward_pool(x).numpy()
        logits = model.linear(torch.from_numpy(pool)).numpy()
    assert np.abs(pool - data["output/pool"]).max() < 1e-4 * np.abs(data["output/pool"]).max()
    assert np.abs(logits - data["output/logits"]).max() < 1e-4 * np.abs(data["output/logits"]).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_variance_after_every_block_equals_the_authors(name: str) -> None:
    model, data = reference(name)
    x = torch.from_numpy(data["input"].astype(np.float64)).permute(0, 3, 1, 2)
    number = 0
    with torch.no_grad():
        x = model.forward_stem(x)
        check_moments(x, data, number)
        for stage in model.stages:
            for block in stage:
                x = block(x)
                number += 1
                check_moments(x, data, number)
    assert number == 16


def check_moments(x: torch.Tensor, data: Any, number: int) -> None:
    squared_mean = x.mean((0, 2, 3)).square().mean().item()
    variance = x.var((0, 2, 3), correction=0).mean().item()
    assert squared_mean == pytest.approx(data[f"output/avg_sq_mean_{number}"].item(), rel=1e-4)
    assert variance == pytest.approx(data[f"output/avg_var_{number}"].item(), rel=1e-4)
