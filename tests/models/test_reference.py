"""Our networks against outputs of the authors' own code (tests/reference/README.md)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from authors_weights import read_npz

from nfrepro.models import create
from nfrepro.models.haiku import load_haiku

REFERENCE = Path(__file__).parents[1] / "reference"
NETWORKS = {"nf_resnet50": "nf_resnet50_relu.npz", "bn_resnet50": "resnet50_bn.npz"}


def reference(name: str) -> tuple[Any, Any, torch.Tensor]:
    """Our network with the authors' parameters, in float64; the authors' outputs; their images [N, C, H, W]."""
    path = REFERENCE / NETWORKS[name]
    params, state = read_npz(path)
    model = create(name, width=0.25, num_classes=10).double()
    load_haiku(model, params, state)
    model.train("bn" in name)
    data = np.load(path)
    return model, data, torch.from_numpy(data["input"].astype(np.float64)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_pooled_features_equal_the_authors(name: str) -> None:
    model, data, x = reference(name)
    with torch.no_grad():
        pool = model.forward_pool(x).numpy()
        logits = model.linear(torch.from_numpy(pool)).numpy()
    assert np.abs(pool - data["output/pool"]).max() < 1e-4 * np.abs(data["output/pool"]).max()
    assert np.abs(logits - data["output/logits"]).max() < 1e-4 * np.abs(data["output/logits"]).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_moments_after_the_stem_equal_the_authors(name: str) -> None:
    model, data, x = reference(name)
    with torch.no_grad():
        check_moments(model.forward_stem(x), data, 0)


@pytest.mark.parametrize("name", NETWORKS)
def test_variance_after_every_block_equals_the_authors(name: str) -> None:
    model, data, x = reference(name)
    number = 0
    with torch.no_grad():
        x = model.forward_stem(x)
        for stage in model.stages:
            for block in stage:
                x = block(x)
                number += 1
                check_moments(x, data, number)
    assert number == 16


@pytest.mark.parametrize("name", NETWORKS)
def test_variance_of_every_residual_branch_equals_the_authors(name: str) -> None:
    model, data, x = reference(name)
    number = 0
    with torch.no_grad():
        x = model.forward_stem(x)
        for stage in model.stages:
            for block in stage:
                variance = mean_variance(block.residual_branch(block.activated(x)))
                assert variance == pytest.approx(data[f"output/res_avg_var_{number}"].item(), rel=1e-4)
                x = block(x)
                number += 1
    assert number == 16


def check_moments(x: torch.Tensor, data: Any, number: int) -> None:
    squared_mean = x.mean((0, 2, 3)).square().mean().item()
    assert squared_mean == pytest.approx(data[f"output/avg_sq_mean_{number}"].item(), rel=1e-4)
    assert mean_variance(x) == pytest.approx(data[f"output/avg_var_{number}"].item(), rel=1e-4)


def mean_variance(x: torch.Tensor) -> float:
    """The variance of each channel of `x` [N, C, H, W], averaged."""
    return x.var((0, 2, 3), correction=0).mean().item()
