"""Training and inference of ResNet-50s: ours, timm's NF-ResNet of the same shape, and torchvision's with BatchNorm.

Interleaved in one process on random images, channels-last, in bfloat16 if the device supports it; ratios step by step
relative to ours.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from nfrepro.models import create, fold
from nfrepro.models.effective_weights import EffectiveWeights
from nfrepro.training.precision import autocast, is_emulated, prepare_device, weight_dtype

STEPS = 8
# Device -> (images in a batch, pixels) measured.
SIZES = {"cpu": ((16, 64), (16, 128)), "cuda": ((256, 224),)}


@dataclass(frozen=True)
class Subject:
    """One network in one mode."""

    name: str
    network: nn.Module
    optimizer: torch.optim.Optimizer | None  # None: inference


def bench_models() -> Iterator[str]:
    """Benchmark in eager mode. Goals: training 1.15 x timm and 1.1 x BatchNorm, inference 1.0 x BatchNorm folded."""
    yield from _bench(compiled=False)


def bench_compiled_models() -> Iterator[str]:
    """Benchmark with torch.compile, which takes minutes before the first step."""
    yield from _bench(compiled=True)


def _bench(compiled: bool) -> Iterator[str]:
    device = prepare_device("cuda" if torch.cuda.is_available() else "cpu", "bfloat16")
    for batch, pixels in SIZES[device.type]:
        threads = "" if device.type == "cuda" else f", {torch.get_num_threads()} threads"
        mode = "compiled" if compiled else "eager"
        size = f"batch {batch}, {pixels} pixels, {_precision(device)}, channels-last"
        yield f"\n{device.type}{threads}, {size}, {mode}, n = {STEPS}\n"
        yield "| pixels | | | images/s | peak MiB | first is … × as fast (min to max) |"
        yield "| --- | --- | --- | --- | --- | --- |"
        x = torch.randn(batch, 3, pixels, pixels, device=device).to(memory_format=torch.channels_last)
        labels = torch.randint(1000, (batch,), device=device)
        for mode, subjects in (("training", _training(device)), ("inference", _inference(device))):
            yield from _compare(mode, subjects, x, labels, compiled)


def _training(device: torch.device) -> list[Subject]:
    networks = {
        "ours nf_resnet50": create("nf_resnet50"),
        "timm nf_resnet50": timm.create_model("nf_resnet50", pretrained=False),
        "torchvision resnet50 (BatchNorm)": torchvision.models.resnet50(),
    }
    subjects = []
    for name, network in networks.items():
        network.to(device).to(memory_format=torch.channels_last).train()
        fused = True if device.type == "cuda" else None
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, nesterov=True, fused=fused)
        subjects.append(Subject(name, network, optimizer))
    return subjects


def _inference(device: torch.device) -> list[Subject]:
    networks = {
        "ours nf_resnet50, folded": fold(create("nf_resnet50")),
        "ours nf_resnet50": create("nf_resnet50"),
        "timm nf_resnet50": timm.create_model("nf_resnet50", pretrained=False),
        "torchvision resnet50, folded": fuse(torchvision.models.resnet50().eval()),
        "torchvision resnet50 (BatchNorm)": torchvision.models.resnet50(),
    }
    return [
        Subject(name, network.to(device).to(memory_format=torch.channels_last).eval(), None)
        for name, network in networks.items()
    ]


def _compare(mode: str, subjects: list[Subject], x: Tensor, labels: Tensor, compiled: bool) -> Iterator[str]:
    """A line for each subject; the others are compared with the first."""
    calls = {subject.name: _step(subject, x, labels, compiled) for subject in subjects}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    peaks: dict[str, float] = {}
    for name, call in calls.items():  # warm-up
        call()
        peaks[name] = _peak_bytes(call, x.device)
    for _ in range(STEPS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    ours = seconds[subjects[0].name]
    for name, values in seconds.items():
        ratios = [theirs / our for theirs, our in zip(values, ours, strict=True)]
        rate, peak = f"{len(x) / statistics.median(values):.1f}", f"{peaks[name] / 2**20:.0f}"
        faster = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        yield f"| {x.shape[-1]} | {mode} | {name} | {rate} | {peak} | {faster} |"


def _step(subject: Subject, x: Tensor, labels: Tensor, compiled: bool) -> Callable[[], None]:
    network = torch.compile(subject.network) if compiled else subject.network
    optimizer = subject.optimizer
    weights = EffectiveWeights(subject.network)
    context = autocast(x.device, _precision(x.device))

    def train() -> None:
        assert optimizer is not None
        optimizer.zero_grad()
        with weights.for_training(weight_dtype(context), 1) as effective:
            with context:
                logits = network(x)
            loss = torch.nn.functional.cross_entropy(logits.float(), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            effective.finish()
        optimizer.step()
        loss.item()

    def infer() -> None:
        with torch.no_grad(), context:
            network(x).sum().item()

    return infer if optimizer is None else train


def _precision(device: torch.device) -> str:
    """The precision to use: bfloat16, but float32 on a processor without bfloat16 instructions."""
    return "float32 (no bfloat16 instructions here)" if is_emulated("bfloat16", device.type) else "bfloat16"


def _peak_bytes(call: Callable[[], None], device: torch.device) -> float:
    """Peak memory of `call`, in bytes, in addition to the memory in use before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return float(torch.cuda.max_memory_allocated(device) - before)
    return cpu_peak_bytes(call)


def cpu_peak_bytes(call: Callable[[], object]) -> float:
    """Peak memory of `call` on a CPU, in bytes, from torch's record of allocations."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    results = profile.profiler.kineto_results
    held = peak = 0
    for event in sorted(results.events(), key=lambda event: int(event.start_ns())):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return float(peak)
