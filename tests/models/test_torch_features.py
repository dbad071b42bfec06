"""Every family under what torch offers around it: compilation, export, data parallelism, autocast, channels-last.

Networks are tiny, with every parameter moved off its initial value, so that all of them matter. A family that is new in
`FAMILIES` is taken in by itself: it gets those of the tiny options that it knows, and what `OWN_OPTIONS` says.
"""

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, multiprocessing, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from nfrepro.models import create
from nfrepro.models.efficientnet_options import VARIANTS as EFFICIENTNETS
from nfrepro.models.folding import fold
from nfrepro.models.nfnet_options import VARIANTS as NFNETS
from nfrepro.models.options import FAMILIES
from nfrepro.models.regnet_options import VARIANTS as REGNETS

# What each family knows of these.
TINY = {
    "blocks": [1, 2],
    "width": 0.125,
    "stem": "small",
    "skipinit_gain": 0.5,
    "stochastic_depth": 0.0,
    "dropout": 0.0,
}
OWN_OPTIONS: dict[str, dict[str, Any]] = {
    "gn_ws_resnet": {"norm_groups": 4},
    "nf_regnet": {"width": 0.25},
    "bn_regnet": {"width": 0.25},
    "nfnet": {"width": 0.0625, "group_width": 8},
    "efficientnet": {"width": 0.5},
    "fully_connected": {"depth": 2, "width": 16, "pixels": 16},
}
# Blocks of each stage of the smallest variants, for the 16 of B0 and the 12 of F0: one is no transition block.
TINY_DEPTHS = (1, 2, 1, 1)
SWITCHES: dict[str, list[dict[str, Any]]] = {
    "nf_resnet": [
        {},
        {"convolution": "ws"},
        {"convolution": "he"},
        {"squeeze_excite": "end", "shortcut": "average_pool", "activation": "silu"},
        {"stem": "imagenet", "gamma_at": "weights", "skipinit_gain": None},
    ],
    "bn_resnet": [{}, {"order": "relu_bn_conv"}, {"order": "v1"}],
    "fully_connected": [{"normalization": "batch_norm"}, {"connection": "residual", "normalization": "scaled_ws"}],
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    " ".join([family, *map(str, switches.values())]): (family, switches)
    for family in FAMILIES
    for switches in SWITCHES.get(family, [{}])
}
every_case = pytest.mark.parametrize("case", CASES)
CLASSES, PIXELS = 3, 16


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """On networks this small several threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(case: str, dtype: torch.dtype = torch.float64, **more: Any) -> Any:
    family, switches = CASES[case]
    tiny, more = known(family, TINY), known(family, more)
    options = tiny | OWN_OPTIONS.get(family, {}) | switches | more
    torch.manual_seed(0)
    tiny_regnet, tiny_nfnet = replace(REGNETS["b0"], depths=TINY_DEPTHS), replace(NFNETS["f0"], depths=TINY_DEPTHS)
    tiny_efficientnet = replace(EFFICIENTNETS["b0"], depth=0.5)
    with (
        mock.patch.dict(REGNETS, {"b0": tiny_regnet}),
        mock.patch.dict(NFNETS, {"f0": tiny_nfnet}),
        mock.patch.dict(EFFICIENTNETS, {"b0": tiny_efficientnet}),
    ):
        model = create(family, num_classes=CLASSES, **options).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def known(family: str, options: dict[str, Any]) -> dict[str, Any]:
    """Those that the family has: EfficientNets are SiLU's, and have one stem."""
    return {name: value for name, value in options.items() if name in FAMILIES[family].model_fields}


def images(count: int, dtype: torch.dtype = torch.float64, pixels: int = PIXELS) -> Tensor:
    return torch.randn(count, 3, pixels, pixels, dtype=dtype, generator=torch.Generator().manual_seed(1))


def loss(logits: Tensor) -> Tensor:
    """A mean over images."""
    return functional.cross_entropy(logits, torch.arange(len(logits)) % CLASSES)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        found[name] = parameter.grad
    return found


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return ((actual.double() - expected.double()).norm() / expected.double().norm()).item()


# ---- torch.compile


def assert_one_graph_does_the_same(backend: str, eager: nn.Module, x: Tensor, tolerance: float) -> None:
    torch.compiler.reset()
    ours = deepcopy(eager)
    compiled = torch.compile(ours, backend=backend, fullgraph=True)
    results = []
    for call, model in ((eager, eager), (compiled, ours)):
        torch.manual_seed(2)  # stochastic depth and dropout draw the same numbers
        logits = call(x)
        loss(logits).backward()
        results.append((logits.detach(), gradients(model)))
    assert results[0][0].std() > 0
    torch.testing.assert_close(results[1], results[0], rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@every_case
@pytest.mark.slow
def test_compiles_to_one_graph_with_the_same_results_and_gradients(case: str) -> None:
    assert_one_graph_does_the_same("aot_eager", build(case, stochastic_depth=0.5, dropout=0.3), images(4), 1e-10)


def missing_for_inductor() -> str:
    """What the compiler backend needs on a CPU and this machine has not."""
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "c++", "clang++"))):
        return "no C++ compiler"
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if os.environ.get("ATEN_CPU_CAPABILITY") == "default":
        return "inductor generates vectorized code that torch's headers do not compile with ATEN_CPU_CAPABILITY=default"
    return "" if headers.exists() else f"no {headers}"


@pytest.mark.slow
@pytest.mark.skipif(bool(missing_for_inductor()), reason=missing_for_inductor())
def test_compiles_to_machine_code_with_the_same_results_and_gradients() -> None:
    assert_one_graph_does_the_same("inductor", build("nf_resnet", blocks=[1, 1]), images(4), 1e-9)


# ---- torch.export


def exported(model: nn.Module) -> tuple[torch.export.ExportedProgram, Callable[[Tensor], Tensor]]:
    """The network as one program for any number of images."""
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(model, (images(2),), dynamic_shapes={"x": {0: batch}})
    return program, program.module()


@every_case
def test_exports_to_a_program_for_any_number_of_images(case: str) -> None:
    model = build(case).eval()
    _, program = exported(model)
    for count in (1, 5):
        torch.testing.assert_close(program(images(count)), model(images(count)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0] == "nf_resnet"])
def test_folded_it_exports_to_a_program_without_standardization(case: str) -> None:
    model = build(case).eval()
    program, call = exported(fold(model))
    torch.testing.assert_close(call(images(5)), model(images(5)), rtol=1e-9, atol=1e-9)

    def arithmetic_on_parameters(program: torch.export.ExportedProgram) -> set[str]:
        """Operations, but convolutions and matrix products, that a weight goes into."""
        weights = {name for name, of in program.graph_signature.inputs_to_parameters.items() if of.endswith("weight")}
        nodes = [node for node in program.graph.nodes if weights & {source.name for source in node.all_input_nodes}]
        return {str(node.target) for node in nodes} - {"aten.conv2d.default", "aten.linear.default"}

    assert arithmetic_on_parameters(exported(model)[0])
    assert not arithmetic_on_parameters(program)


# ---- Data parallelism

WORLD = 2
BATCH = 2 * WORLD


@pytest.fixture(scope="module")
def gradients_of_two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Of each process, case by case: the gradients, or what went wrong. One start of the processes serves all cases."""
    folder = tmp_path_factory.mktemp("parallel")
    multiprocessing.spawn(train_in_parallel, (str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


def train_in_parallel(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    found: dict[str, Any] = {}
    for case in CASES:
        try:
            found[case] = gradients_in_parallel(case, rank)
        except Exception as error:
            found[case] = f"{type(error).__name__}: {error}"
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def gradients_in_parallel(case: str, rank: int) -> dict[str, Tensor]:
    model = build(case)
    parallel = DistributedDataParallel(model)
    for _ in range(2):  # an unused parameter is noticed in the second step
        model.zero_grad()
        half_loss(parallel, rank).backward()
    return gradients(model)


def half_loss(model: nn.Module, rank: int) -> Tensor:
    """The loss of the share of images that process `rank` has; its targets are those of the whole batch."""
    share = slice(rank * BATCH // WORLD, (rank + 1) * BATCH // WORLD)
    return functional.cross_entropy(model(images(BATCH)[share]), torch.arange(BATCH)[share] % CLASSES)


@every_case
@pytest.mark.slow
def test_two_processes_average_to_the_gradient_of_the_whole_batch(
    case: str, gradients_of_two_processes: list[dict[str, Any]]
) -> None:
    model = build(case)
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        # Each process normalizes with its own images: there is no whole batch.
        (sum(half_loss(model, rank) for rank in range(WORLD)) / WORLD).backward()  # type: ignore[union-attr]
    else:
        loss(model(images(BATCH))).backward()
    expected = gradients(model)
    assert any(gradient.any() for gradient in expected.values())
    for found in gradients_of_two_processes:
        assert isinstance(found[case], dict), found[case]
        torch.testing.assert_close(found[case], expected, rtol=1e-10, atol=1e-10)


# ---- Autocast


class ConvolvedWeights(TorchDispatchMode):
    """Records the weights that convolutions really get, below autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.seen.append(args[1].clone())
        return func(*args, **(kwargs or {}))


@every_case
def test_under_autocast_results_are_close_and_parameters_and_gradients_stay_in_float32(case: str) -> None:
    # bfloat16 has 8 digits: 0.4 % a rounding, in a few dozen roundings. The gradient has more, and some activations
    # change sides; batches normalized over 16 pixels enlarge both: a BatchNorm behind every convolution needs more.
    model, pixels = build(case, torch.float32), 64 if case == "efficientnet" else PIXELS
    results = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = model(images(16, torch.float32, pixels))
        loss(logits.float()).backward()
        results.append((logits, torch.cat([gradient.flatten() for gradient in gradients(model).values()])))
    (expected_logits, expected_gradient), (logits, gradient) = results
    assert (expected_logits.dtype, logits.dtype) == (torch.float32, torch.bfloat16)
    assert relative_error(logits - logits.mean(0), expected_logits - expected_logits.mean(0)) < 0.1
    assert relative_error(gradient, expected_gradient) < 0.3
    assert {tensor.dtype for tensor in [*model.parameters(), *gradients(model).values()]} == {torch.float32}


@every_case
def test_under_autocast_convolutions_get_the_float32_weights_rounded_once(case: str) -> None:
    # Standardization, gains and scales in bfloat16 would be wrong by some units in the last of its 8 digits.
    model = build(case, torch.float32)
    with torch.no_grad(), ConvolvedWeights() as plain:
        model(images(4, torch.float32))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), ConvolvedWeights() as rounded:
        model(images(4, torch.float32))
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert len(rounded.seen) == len(plain.seen) == len(convolutions)
    for actual, expected in zip(rounded.seen, plain.seen, strict=True):
        assert (actual.dtype, expected.dtype) == (torch.bfloat16, torch.float32)
        # Half a unit in the last of 8 digits, and the rounding of float32 that the two standardizations may differ by.
        assert ((actual.float() - expected).abs() <= expected.abs() * 2**-8 * 1.001 + 1e-6 * expected.abs().max()).all()


# ---- Channels-last


@every_case
def test_channels_last_gives_the_same_and_stays_so_forwards_and_backwards(case: str) -> None:
    # The reference is contiguous and in float64: standardized weights make even contiguous activations channels-last.
    # SiLU everywhere: with ReLU, a value near 0 that changes sides in float32 would show in the gradient.
    reference, x = build(case, torch.float32, activation="silu").double(), images(16)
    x.requires_grad_()
    expected = reference(x)
    loss(expected).backward()
    assert x.grad is not None

    model = build(case, torch.float32, activation="silu").to(memory_format=torch.channels_last)
    y = images(16).float().to(memory_format=torch.channels_last).requires_grad_()
    layouts: dict[str, bool] = {}

    def note(name: str, tensor: Tensor) -> None:
        layouts[name] = tensor.is_contiguous(memory_format=torch.channels_last)

    features = model.forward_features(y)
    for number, feature in enumerate(features):
        note(f"output of stage {number}", feature)
        if number < len(features) - 1:  # torch makes the gradient of the mean over pixels contiguous
            feature.register_hook(lambda gradient, number=number: note(f"gradient of stage {number}", gradient))
    logits = model.classify(model.forward_head(features[-1]))
    loss(logits).backward()
    assert y.grad is not None
    note("gradient of the images", y.grad)
    for name, gradient in gradients(model).items():
        if gradient.ndim == 4:
            note(name, gradient)
    assert len(layouts) > 2 * len(features)
    assert not [name for name, kept in layouts.items() if not kept]

    assert relative_error(logits, expected) < 1e-4
    assert relative_error(y.grad, x.grad) < 1e-4
    for name, gradient in gradients(reference).items():
        # The gradient of a shift that the next BatchNorm takes out is 0.
        assert relative_error(gradients(model)[name], gradient) < 1e-3 or gradient.norm() < 1e-12, name
