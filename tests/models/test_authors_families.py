"""Every family of the authors against outputs of their own code, with every parameter random (tests/reference)."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from nfrepro.models import create
from nfrepro.models.cost import count_authors_multiply_adds
from nfrepro.models.haiku import load_haiku
from nfrepro.models.registry import parse_options
from nfrepro.signal import propagation

ARCHIVE = np.load(Path(__file__).parents[1] / "reference" / "families.npz")
CASES: dict[str, dict[str, Any]] = json.loads(ARCHIVE["index"].tobytes())
# Their NF-ResNets are counted with squeeze-excite only, and then by the width of the bottleneck, not of the block.
COUNTED = [name for name, case in CASES.items() if case["multiply_adds"] and "nf_resnet" not in name]
CLASSES = 10
# float32 sums of a hundred blocks that grow by what activations such as the identity let through.
TOLERANCE = 1e-4


def random_array(name: str, shape: list[int]) -> npt.NDArray[np.float32]:
    """The value that parameter `name` of the authors' network was given: none of them is at its initial one."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    last = name.rpartition("/")[2]
    if last == "w":
        values = generator.standard_normal(shape) * int(np.prod(shape[:-1])) ** -0.5
    elif last in ("gain", "scale"):
        values = generator.uniform(0.5, 1.5, shape)
    elif last == "skip_gain":
        values = generator.uniform(0.3, 1.0, shape)
    elif "var_ema" in name:
        values = generator.uniform(0.5, 2.0, shape)
    else:
        values = 0.3 * generator.standard_normal(shape)
    return np.asarray(values, dtype=np.float32)


def tree(listed: list[tuple[str, list[int]]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, shape in listed:
        module, _, last = name.rpartition("/")
        found.setdefault(module, {})[last] = random_array(name, shape)
    return found


def network(case: dict[str, Any]) -> Any:
    options = dict(case["ours"])
    model = create(options.pop("name"), num_classes=CLASSES, **options).double()
    load_haiku(model, tree(case["parameters"]), tree(case["state"]) or None)
    return model.train(case["training"])


def images(case: dict[str, Any]) -> torch.Tensor:
    count, height, width = case["images"]
    drawn = np.random.default_rng(7).standard_normal((count, height, width, 3)).astype(np.float32)
    return torch.from_numpy(drawn).double().permute(0, 3, 1, 2)


def close(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("name", CASES)
def test_logits_pooled_features_and_statistics_of_every_block_equal_the_authors(name: str) -> None:
    case = CASES[name]
    model, x = network(case), images(case)
    with torch.no_grad():
        pool = model.forward_pool(x)
        close(pool.numpy(), ARCHIVE[f"{name}/pool"])
        close(model.classify(pool).numpy(), ARCHIVE[f"{name}/logits"])
    expected = ARCHIVE[f"{name}/statistics"][1:]  # the first row is the stem's
    table = propagation(network(case), x, batch_statistics=case["training"])
    found = table[["avg_sq_mean", "avg_var", "res_var"]].to_numpy()
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=1e-6 * np.abs(expected).max())


def test_every_family_and_switch_of_the_authors_is_here() -> None:
    assert {
        case["ours"]["name"].rstrip("0123456789").removesuffix("_b").removesuffix("_f") for case in CASES.values()
    } == {
        "nf_resnet",
        "bn_resnet",
        "skipinit_resnet",
        "fixup_resnet",
        "nf_regnet",
        "nfnet",
    }
    assert len(CASES) == 49


@pytest.mark.parametrize("name", COUNTED)
def test_multiply_adds_are_the_authors_count(name: str) -> None:
    case = CASES[name]
    options = dict(case["ours"])
    _, height, width = case["images"]
    found = count_authors_multiply_adds(parse_options(options.pop("name"), options), CLASSES, 3, height, width)
    assert found == pytest.approx(case["multiply_adds"], rel=1e-9)


def test_a_parameter_at_its_initial_value_would_hide_a_fault() -> None:
    """The reference would notice an identity path without bias1a, the fault that it was made for."""
    case = CASES["fixup_resnet"]
    parameters = tree(case["parameters"])
    blocks = [module for module, arrays in parameters.items() if "bias1a" in arrays]
    assert len(blocks) == 6
    assert all(abs(float(parameters[module]["bias1a"])) > 1e-3 for module in blocks)
