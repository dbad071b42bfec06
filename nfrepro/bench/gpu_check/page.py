"""Text of docs/gpu.md, from the facts of `nfrepro.bench.gpu_check`: checks and measurements on one GPU."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Fact = dict[str, Any]

HEAD = """\
# Measured on a GPU

Written by `make gpu-check` from what it found on one machine; the facts themselves are in [{facts}]({facts}).
How to use one GPU, several, or a cluster: [from_laptop_to_cluster.md](from_laptop_to_cluster.md).
"""


def read(path: Path) -> list[Fact]:
    """The facts of a file, in order."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def page(facts: Sequence[Fact], name: str) -> str:
    """The page as Markdown; `name` is the file of facts, in the same folder."""
    by_check: dict[str, list[Fact]] = {}
    problems = []
    for fact in facts:
        if "failed" in fact or "left_out" in fact:
            problems.append(fact)
        elif "took" not in fact:
            by_check.setdefault(fact["check"], []).append(fact)
    parts = [HEAD.format(facts=name)]
    parts += [SECTIONS[check](found) for check, found in by_check.items() if check in SECTIONS]
    if problems:
        said = [(fact["check"], fact.get("left_out") or fact["failed"].strip().splitlines()[-1]) for fact in problems]
        parts.append("## What could not be checked\n" + _table(("check", "why"), said))
    return "\n".join(parts)


def _machine(found: Sequence[Fact]) -> str:
    fact = found[0]
    return (
        f"{fact['gpu']} ({fact['multiprocessors']} multiprocessors, {fact['memory_gb']:g} GB), "
        f"driver {fact['driver']}, {fact['cores']} CPU cores; torch {fact['torch']}, "
        f"CUDA {fact['cuda']}, cuDNN {fact['cudnn']}.\n"
    )


def _trains(found: Sequence[Fact]) -> str:
    rows = [
        (fact["network"], fact["precision"], _yes(fact["same_bits_twice"]), *_losses(fact["train_loss"]))
        for fact in found
    ]
    head = ("network", "precision", "same bits twice", "training loss on the GPU", "on the CPU")
    note = "Dropout and stochastic depth draw other numbers on a GPU than on a CPU, so that those losses differ.\n"
    return "## Small networks train\n" + _table(head, rows) + note


def _losses(losses: dict[str, float]) -> tuple[str, str]:
    gpu = next(value for device, value in losses.items() if device != "cpu")
    return f"{gpu:.5f}", f"{losses['cpu']:.5f}" if "cpu" in losses else ""


def _standardization(found: Sequence[Fact]) -> str:
    rows = [(f["rule"], f["way"], f"{f['logits']:.1e}", f"{f['worst_gradient']:.1e}") for f in found]
    head = ("epsilon rule", "computed", "error of the logits", "of the worst gradient")
    note = (
        "Relative to float64, in a network with filters on the floor. An input of a ReLU that lies at 0 by chance\n"
        "counts in one arithmetic and not in the other: this causes the larger errors, equally for every way of\n"
        "computing.\n"
    )
    return "## Scaled Weight Standardization is exact\n" + _table(head, rows) + note


def _step_cost(found: Sequence[Fact]) -> str:
    rows = [
        (f["network"], f["precision"], f"{f['ms']:.1f}", f"{f['gpu_ms']:.1f}", f"{f['kernels']:.0f}", f["waits"])
        for f in found
    ]
    head = ("network", "precision", "ms a step", "of them the GPU works", "kernels", "waits for the GPU")
    title = (
        "## A step on CIFAR-10\n"
        "29 layers ([3, 3, 3] blocks) of half the width, batch 256, one kernel launched after the other. NF-ResNets\n"
        "have fewer kernels than their BatchNorm twins, and work less, but a third of the kernels are launched from\n"
        "Python: it takes a CUDA graph (below), or a larger network, to see it.\n\n"
    )
    return title + _table(head, rows)


def _resume(found: Sequence[Fact]) -> str:
    rows = [(fact["network"], fact["precision"], _yes(fact["same_bits"])) for fact in found]
    title = "## A run stopped within an epoch ends with the same bits\n"
    return title + _table(("network", "precision", "same bits"), rows)


def _imagenet(found: Sequence[Fact]) -> str:
    rows = [
        (f["network"], f["precision"], f"{f['images_s']:,}", f.get("peak_gb", ""), _number(f.get("kernels")))
        for f in found
    ]
    head = ("network", "precision", "images/s", "peak memory, GB", "kernels")
    return "## A step of ResNet-50\n224 pixels, batch 256, forward, backward and update.\n\n" + _table(head, rows)


def _graph(found: Sequence[Fact]) -> str:
    rows = [(f["network"], f"{f['eager_ms']:.1f}", f"{f['graph_ms']:.1f}", _yes(f["same_bits"])) for f in found]
    head = ("network", "ms a step, kernel by kernel", "as a graph", "same bits")
    title = "## The step as a CUDA graph\nThe same networks on CIFAR-10, bfloat16.\n\n"
    return title + _table(head, rows)


def _arithmetic(found: Sequence[Fact]) -> str:
    names = ("loss", "gradient_norm", "relative_beta", "last_variance", "input_gradient")
    rows = [(f["network"], f["arithmetic"], *(f"{f[name]:.6g}" if name in f else "" for name in names)) for f in found]
    head = ("network", "arithmetic", "loss", "norm of the gradient", "relative beta", "last variance", "input gradient")
    return "## What TF32 does to measurements\n" + _table(head, rows)


def _faults(found: Sequence[Fact]) -> str:
    rows = [
        (what, "fine" if said == "fine" else said[1], "" if said == "fine" else _yes(said[2]))
        for line in found[0]["said"]
        for what, said in line.items()
    ]
    head = ("what was tried, in one process", "what happened", "the machine's fault")
    note = "After an assertion the process is of no use: the local queue's worker ends there, and another takes over.\n"
    return "## Faults\n" + _table(head, rows) + note


def _sharing(found: Sequence[Fact]) -> str:
    rows = [
        (f["jobs"], _yes(f["graph"]), _yes(f["mps"]), f["seconds"], f"{f['images_s_together']:,}")
        for f in found
        if "graph" in f
    ]
    head = ("runs at once", "CUDA graph", "MPS", "seconds for the sweep", "sum of the runs' own images/s")
    title = (
        "## Runs that share the GPU\nTwo epochs of 51,200 images each, from `nfrepro sweep --jobs`, start included.\n\n"
    )
    return title + _table(head, rows)


def _streaming(found: Sequence[Fact]) -> str:
    rows = [(f["workers"], f"{f['images_s']:,}") for f in found]
    title = "## Images for ImageNet, decoded and cropped by the CPU\n"
    return title + _table(("processes", "images/s"), rows)


SECTIONS: dict[str, Callable[[Sequence[Fact]], str]] = {
    "facts": _machine,
    "trains": _trains,
    "standardization": _standardization,
    "step_cost": _step_cost,
    "cuda_graph": _graph,
    "imagenet_step": _imagenet,
    "sharing": _sharing,
    "streaming": _streaming,
    "resume": _resume,
    "arithmetic": _arithmetic,
    "faults": _faults,
}


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
