"""All effective weights of a network in one pass: against float64, by the kernels themselves, and their number."""

import copy
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nfrepro.models import create
from nfrepro.models.convolutions import ScaledWSConv2d
from nfrepro.models.effective_weights import EffectiveWeights
from nfrepro.training.evaluation import evaluate

FAMILIES: dict[str, dict[str, Any]] = {
    "nf_resnet": {"blocks": [1, 1], "width": 0.0625, "stem": "small"},
    "nf_regnet_b0": {"width": 0.3},
    "nfnet_f0": {"width": 0.0625, "group_width": 4},
}
# Operators that only look at memory in another way, or reserve it.
VIEWS = {
    *("view", "permute", "transpose", "t", "expand", "as_strided", "detach", "alias", "slice", "select", "squeeze"),
    *("unsqueeze", "split", "split_with_sizes", "unbind", "_reshape_alias", "_unsafe_view", "lift_fresh"),
    *("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"),
}


# BatchNorm reads its input for the statistics, and then for the output; its gradient likewise (docs/gpu.md).
KERNELS = {"native_batch_norm": 2, "native_batch_norm_backward": 2, "sum_of_channels": 2}


class Launches(TorchDispatchMode):
    """Counts the operators that compute something; on the device "meta" they do not."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name.split("::")[1]
        if name not in VIEWS:
            self.count[name] += KERNELS.get(name, 1)
        return function(*args, **(kwargs or {}))


def launches(name: str, size: int = 32, **options: Any) -> Counter[str]:
    """Of the forward and the backward pass of a training step."""
    with torch.device("meta"):
        model = create(name, num_classes=10, **options).to(memory_format=torch.channels_last)
        x = torch.empty(8, 3, size, size).to(memory_format=torch.channels_last)
        labels = torch.empty(8, dtype=torch.long)
    weights = EffectiveWeights(model)
    with Launches() as counted, weights.for_training(torch.float32, 1) as effective:
        F.cross_entropy(model(x), labels).backward()
        effective.finish()
    return counted.count


def test_a_step_launches_no_more_than_its_batchnorm_twin() -> None:
    resnet = {"blocks": [3, 3, 3], "width": 0.5, "stem": "small"}
    ours, twin = launches("nf_resnet", **resnet), launches("bn_resnet", **resnet)
    assert ours.total() <= 1.1 * twin.total()
    # For each convolution itself, its bias and their gradients; activations, additions, and a few for all filters.
    assert ours["convolution"] == ours["convolution_backward"] == 31
    assert ours["standardize_filters"] == ours["standardize_filters_backward"] == 1
    assert ours["add_bias"] == ours["sum_of_channels"] / 2 == 31
    assert ours.total() <= 300
    regnet, its_twin = launches("nf_regnet_b0", 64), launches("bn_regnet_b0", 64)
    assert regnet.total() <= 1.1 * its_twin.total()


def test_on_a_cpu_a_step_launches_what_it_did() -> None:
    """The count that the kernels save: on a GPU without them each of these waits to be launched."""
    with torch.device("meta"):
        model = create("nf_resnet", num_classes=10, blocks=[3, 3, 3], width=0.5, stem="small")
        x, labels = torch.empty(8, 3, 32, 32), torch.empty(8, dtype=torch.long)
    with Launches() as counted:
        F.cross_entropy(model(x), labels).backward()
    assert counted.count.total() > 1000


@pytest.mark.parametrize("name", FAMILIES)
def test_every_standardized_convolution_has_its_scales(name: str) -> None:
    model = create(name, num_classes=4, **FAMILIES[name])
    expected = [module for module in model.modules() if isinstance(module, ScaledWSConv2d)]
    assert [scaled.convolution for scaled in model.scaled_convolutions()] == expected


def test_another_network_has_none() -> None:
    assert EffectiveWeights(create("bn_resnet", num_classes=4, blocks=[1], width=0.1, stem="small")).scaled == []


@pytest.mark.parametrize("name", FAMILIES)
def test_inference_has_the_same_bits(name: str) -> None:
    model = shaken(name)
    model.eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        with EffectiveWeights(model).for_inference(torch.float32):
            assert torch.equal(model(x), expected)
        assert torch.equal(model(x), expected)


def test_weights_are_taken_back_after_an_error() -> None:
    model = shaken("nf_resnet")
    with pytest.raises(RuntimeError), EffectiveWeights(model).for_inference(torch.float32):
        raise RuntimeError
    assert all(scaled.convolution.effective is None for scaled in model.scaled_convolutions())  # type: ignore[attr-defined]


def test_evaluation_sees_weights_that_changed_since() -> None:
    model = shaken("nf_resnet")
    batch = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 3])
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=False)
    before = evaluate(model, [batch], autocast).loss
    with torch.no_grad():
        model.initial_conv.gain.mul_(2.0)
    assert evaluate(model, [batch], autocast).loss != before


def shaken(name: str, **options: Any) -> Any:
    """No parameter has its initial value, and three filters lie on the floor of the standardization."""
    model = create(name, num_classes=4, **{**FAMILIES[name], **options}).to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        model.scaled_convolutions()[1].convolution.weight[:3] *= 1e-5
    return model


def gradients(model: nn.Module, x: Tensor, dtype: torch.dtype | None) -> list[Tensor]:
    """Logits and gradients, by the kernels where a type is given."""
    labels = torch.arange(len(x)) % 4
    if dtype is None:
        logits = model(x)
        F.cross_entropy(logits, labels).backward()
    else:
        with EffectiveWeights(model).for_training(dtype, 1) as effective:
            logits = model(x.to(dtype))
            F.cross_entropy(logits.float(), labels).backward()
            effective.finish()
    return [logits.detach(), *(parameter.grad for parameter in model.parameters() if parameter.grad is not None)]


def compare_kernels(options: dict[str, Any]) -> None:
    """Compare the kernels, interpreted on the CPU, with float64: as close as autograd's float32 is, within a factor.

    Some gradients nearly cancel, and ReLU turns rounding into jumps: float32 itself is then far from float64, by
    how much depends on the processor. Hence the smooth activation and the second measure.
    """
    from nfrepro.models import triton_support

    triton_support.runs_on = lambda device: True
    torch.manual_seed(0)
    model = shaken("nf_resnet", activation="silu", **options)
    plain, exact = copy.deepcopy(model), copy.deepcopy(model).double()
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = gradients(model, x, torch.float32)
    rounded, expected = gradients(plain, x, None), gradients(exact, x.double(), None)
    assert len(found) == len(expected) == len(rounded) > 20
    for ours, autograd, theirs in zip(found, rounded, expected, strict=True):
        error, rounding = (ours.double() - theirs).norm(), (autograd.double() - theirs).norm()
        assert error <= 10 * rounding + 2e-5 * theirs.norm() + 1e-9
    assert all(parameter.grad.stride() == parameter.stride() for parameter in model.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ws_epsilon": "sum", "ws_variance": "sample", "squeeze_excite": "end"},
        {"ws_epsilon": "timm", "convolution": "ws", "skipinit_gain": None, "shortcut_input": "raw"},
    ],
    ids=["paper", "sum", "timm"],
)
def test_the_kernels_agree_with_float64(options: dict[str, Any]) -> None:
    pytest.importorskip("triton")
    code = f"import test_effective_weights; test_effective_weights.compare_kernels({options!r})"
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    if "only 0-dimensional arrays" in done.stderr:
        pytest.skip("this version of Triton cannot interpret kernels with this version of NumPy")
    assert done.returncode == 0, done.stderr[-3000:]
