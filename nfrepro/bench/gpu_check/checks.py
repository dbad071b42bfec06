"""The checks, most valuable first. Each is a function of the device's name that yields facts."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfrepro.bench.gpu_check import timing
from nfrepro.bench.gpu_check.process_checks import faults, sharing, streaming
from nfrepro.bench.gpu_check.timing import TINY, Fact, final_values
from nfrepro.models import create
from nfrepro.models.effective_weights import EffectiveWeights
from nfrepro.tasks.train import weights_digest
from nfrepro.tasks.watched_training import run
from nfrepro.training import callbacks
from nfrepro.training.context import Interrupted, RunContext
from nfrepro.training.device import driver_version
from nfrepro.training.precision import ieee_arithmetic, multiplication, prepare_device

ALL_AT_ONCE = {**TINY, "stem": "imagenet", "dropout": 0.3, "stochastic_depth": 0.3}


def facts(device: str) -> Iterator[Fact]:
    """Facts about the machine."""
    import torchvision

    properties = torch.cuda.get_device_properties(device)
    yield {
        "gpu": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "capability": f"{properties.major}.{properties.minor}",
        "driver": driver_version(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "cores": len(os.sched_getaffinity(0)),
        "compiler": shutil.which("gcc") or shutil.which("cc"),
        "triton": find_spec("triton") is not None,
        "mps": shutil.which("nvidia-cuda-mps-control"),
        "convolutions_by_default": multiplication(),
    }


def trains(device: str) -> Iterator[Fact]:
    """Whether small networks train, with the same bits twice, and close to the result of the CPU."""
    cases: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "NF": ({"name": "nf_resnet", **TINY}, {}),
        "BN": ({"name": "bn_resnet", **TINY}, {}),
        "NF with all options": (
            {"name": "nf_resnet", **ALL_AT_ONCE, "squeeze_excite": "end"},
            {"ema_decay": 0.9, "clip_factor": 0.05, "grad_accum_steps": 2},
        ),
    }
    for name, (model, extra) in cases.items():
        for precision in ("float32", "tf32", "bfloat16"):
            options = timing.task(model, 64, images=256, precision=precision, **extra)
            where = [device, device, "cpu"] if precision == "float32" else [device, device]
            if name == "NF":
                where.append("cuda")  # the device name on SLURM
            ends = [final_values(options, on) for on in where]
            yield {
                "network": name,
                "precision": precision,
                "same_bits_twice": ends[0]["weights_sha256"] == ends[1]["weights_sha256"],
                "train_loss": {on: round(end["train_loss"], 5) for on, end in zip(where, ends, strict=True)},
            }


def standardization(device: str) -> Iterator[Fact]:
    """Errors of every way to standardize, relative to float64; some filters are at the floor of the variance."""
    for epsilon in ("floor", "sum", "timm"):
        torch.manual_seed(0)
        small: dict[str, Any] = {**timing.SMALL, "ws_epsilon": epsilon, "alpha": 0.3}
        model: Any = create("nf_resnet", num_classes=10, **small).to(memory_format=torch.channels_last)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
            model.stages[0][0].conv0.weight[:3] *= 1e-5
        x = torch.randn(8, 3, 32, 32)
        truth = _gradients(model.double(), x.double())
        model = model.float().to(device)
        for way in timing.WAYS:
            with timing.standardizing(way), ieee_arithmetic():
                found = _gradients(model, x.to(device))
            errors = [_error(ours, theirs) for ours, theirs in zip(found, truth, strict=True)]
            yield {"rule": epsilon, "way": way, "logits": errors[0], "worst_gradient": max(errors[1:])}


def _gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Logits and gradients of all parameters, as float64 on the CPU."""
    model.zero_grad()
    labels = torch.arange(len(x), device=x.device)
    with EffectiveWeights(model).for_training(torch.float32, 1) as effective:
        logits = model(x)
        F.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
        effective.finish()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return [found.detach().clone().double().cpu() for found in (logits, *gradients)]


def _error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def step_cost(device: str) -> Iterator[Fact]:
    """Time, kernels and waits of a step on images of CIFAR-10's size, batch 256."""
    for precision in ("bfloat16", "tf32", "float32"):
        for network, name in (("BN", "bn_resnet"), ("NF", "nf_resnet")):
            ready = timing.prepared(timing.task({"name": name, **timing.SMALL}, 256, precision=precision), device)
            yield {"network": network, "precision": precision, **timing.cost_of_step(ready.step, 40)}
    for way in timing.WAYS[1:]:
        with timing.standardizing(way):
            ready = timing.prepared(
                timing.task({"name": "nf_resnet", **timing.SMALL}, 256, precision="bfloat16"), device
            )
            yield {"network": f"NF, {way}", "precision": "bfloat16", **timing.cost_of_step(ready.step, 40)}


def resume(device: str) -> Iterator[Fact]:
    """Whether a run that is stopped in the middle of an epoch and continued ends with the same bits."""
    setattr(callbacks, "GPU_STEPS_BETWEEN_LOOKS", 1)  # noqa: B010 - otherwise so short a run is only stopped between epochs
    networks: dict[str, dict[str, Any]] = {
        "NF, dropout, stochastic depth": {"name": "nf_resnet", **ALL_AT_ONCE},
        "BN": {"name": "bn_resnet", **TINY},
        "GN": {"name": "gn_ws_resnet", **TINY, "width": 0.25, "norm_groups": 4},
    }
    for name, model in networks.items():
        for precision in ("float32", "bfloat16"):
            options = timing.task(model, 64, images=256, precision=precision, ema_decay=0.9)
            whole = final_values(options, device)["weights_sha256"]
            with tempfile.TemporaryDirectory() as folder:
                with suppress(Interrupted):
                    run(options, RunContext(Path(folder), device, should_stop=partial(_third, iter(range(99)))))
                torch.randn(999, device=device)
                again = run(options, RunContext(Path(folder), device)).final["weights_sha256"]
            yield {"network": name, "precision": precision, "same_bits": whole == again}


def _third(looks: Iterator[int]) -> bool:
    return next(looks) >= 2


def imagenet_step(device: str) -> Iterator[Fact]:
    """ResNet-50 at 224 pixels: ours, its BN twin, timm's and torchvision's."""
    import timm
    import torchvision

    size = {"batch": 256, "pixels": 224, "classes": 1000, "images": 256}
    for name in ("nf_resnet", "bn_resnet"):
        _free()
        model = {"name": name, "depth": 50, "stem": "imagenet"}
        ready = timing.prepared(timing.task(model, **size, precision="bfloat16"), device)
        yield {"network": f"ours, {name}50", "precision": "bfloat16", **_rate(ready.step, 256)}
        graphed = timing.prepared(timing.task(model, **size, precision="bfloat16"), device, cuda_graph=True)
        rate = 256 / timing.seconds(graphed.step, 8, 5)
        yield {"network": f"ours, {name}50, as a graph", "precision": "bfloat16", "images_s": round(rate)}
        del graphed
        x, labels, setup = ready.x, ready.targets, ready.setup
        del ready
    others: dict[str, Callable[[], nn.Module]] = {
        "timm, nf_resnet50": lambda: timm.create_model("nf_resnet50", pretrained=False),
        "torchvision, resnet50": torchvision.models.resnet50,
    }
    for name, make in others.items():
        _free()
        network = make().to(device).to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, nesterov=True, fused=True)

        def step(network: nn.Module = network, optimizer: torch.optim.SGD = optimizer) -> None:
            optimizer.zero_grad(set_to_none=True)
            with setup.autocast:
                logits = network(x)
            F.cross_entropy(logits.float(), labels, label_smoothing=0.1).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        yield {"network": name, "precision": "bfloat16", **_rate(step, 256)}
        del network, optimizer, step
    for precision in ("tf32", "float32"):
        _free()
        options = timing.task({"name": "nf_resnet", "depth": 50, "stem": "imagenet"}, **size, precision=precision)
        yield {
            "network": "ours, nf_resnet50",
            "precision": precision,
            **_rate(timing.prepared(options, device).step, 256),
        }


def _rate(step: Callable[[], None], batch: int) -> Fact:
    torch.cuda.reset_peak_memory_stats()
    cost = timing.cost_of_step(step, 8)
    return {
        "images_s": round(batch / cost["ms"] * 1e3),
        "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 1),
        **cost,
    }


def _free() -> None:
    import gc

    gc.collect()
    torch.cuda.empty_cache()


def cuda_graph(device: str) -> Iterator[Fact]:
    """The whole step as one CUDA graph: its time, and whether it gives the same bits as single launches."""
    networks: dict[str, dict[str, Any]] = {
        "NF": {"name": "nf_resnet", **timing.SMALL},
        "BN": {"name": "bn_resnet", **timing.SMALL},
        "NF, dropout, stochastic depth": {"name": "nf_resnet", **timing.SMALL, "dropout": 0.3, "stochastic_depth": 0.3},
    }
    for name, model in networks.items():
        options = timing.task(model, 256, precision="bfloat16")
        ends, times = [], []
        for graph in (False, True):
            _free()
            ready = timing.prepared(options, device, graph)
            for _ in range(10):
                ready.step()
            ends.append(weights_digest(ready.model))
            times.append(1e3 * timing.seconds(ready.step, 40))
        yield {"network": name, "same_bits": ends[0] == ends[1], "eager_ms": times[0], "graph_ms": times[1]}


def arithmetic(device: str) -> Iterator[Fact]:
    """Effect of TF32 on the measurements: smoothness, propagation and input gradients in three kinds of arithmetic."""
    from nfrepro.signal import input_gradients, propagation, smoothness

    torch.manual_seed(0)
    x, y = torch.randn(128, 3, 32, 32), torch.randint(10, (128,))
    for name in ("nf_resnet", "bn_resnet"):
        small: dict[str, Any] = timing.SMALL
        model: Any = create(name, num_classes=10, **small).train()
        nn.init.normal_(model.linear.weight, std=0.05)
        for parameter in model.parameters():
            if parameter.ndim == 0:
                parameter.data.fill_(1.0)
        model = model.to(device)
        for kind in ("float64", "float32", "tf32"):
            prepare_device(device, kind)
            dtype = torch.float64 if kind == "float64" else None
            found = smoothness(
                model,
                F.cross_entropy,
                (x.to(device), y.to(device)),
                (0.00125, 0.0025, 0.005, 0.01),
                relative=True,
                dtype=dtype,
            )
            numbers = {"loss": found.loss, "gradient_norm": found.gradient_norm, "relative_beta": found.relative_beta}
            if dtype is None:
                numbers["last_variance"] = float(propagation(model, x.to(device))["avg_var"].iloc[-1])
                numbers["input_gradient"] = float(input_gradients(model, x[:8].to(device)).double().norm())
            yield {"network": name, "arithmetic": kind, **numbers}


@dataclass(frozen=True)
class Check:
    """A check and the seconds it may take."""

    run: Callable[[str], Iterator[Fact]]
    seconds: int


CHECKS = {
    "facts": Check(facts, 15),
    "trains": Check(trains, 60),
    "standardization": Check(standardization, 30),
    "step_cost": Check(step_cost, 60),
    "resume": Check(resume, 60),
    "imagenet_step": Check(imagenet_step, 90),
    "cuda_graph": Check(cuda_graph, 30),
    "arithmetic": Check(arithmetic, 30),
    "faults": Check(faults, 60),
    "sharing": Check(sharing, 150),
    "streaming": Check(streaming, 40),
}
