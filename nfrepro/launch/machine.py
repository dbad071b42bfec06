"""What this machine has: processor cores this process may use, and GPUs. Decides how many runs go at once."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from nfrepro.evidence.provenance import processor


@dataclass(frozen=True)
class Share:
    """Workers, and what each of them gets."""

    devices: tuple[str, ...]  # one entry a worker
    threads: int  # of each worker

    @property
    def workers(self) -> int:
        return len(self.devices)


def share_machine(runs: int, jobs: int | None, threads: int | None) -> Share:
    """How to execute `runs` runs: `jobs` at once, or as many as there are GPUs, or else physical cores.

    Each gets `threads` threads, or its part of the cores.
    """
    gpus, cores = count_gpus(), count_cores()
    workers = max(1, min(jobs if jobs is not None else gpus or cores, runs))
    devices = tuple(f"cuda:{worker % gpus}" if gpus else "cpu" for worker in range(workers))
    return Share(devices, max(1, cores // workers) if threads is None else threads)


def count_cores() -> int:
    """Physical cores this process may use; the quota of its control group counts."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = len({_siblings(processor) for processor in allowed})
    return max(1, min(cores, _quota()))


def count_gpus() -> int:
    """GPUs that torch can use; torch is asked only where a driver is installed."""
    if shutil.which("nvidia-smi") is None and not Path("/proc/driver/nvidia").exists():
        return 0
    import torch

    return torch.cuda.device_count()


def device_name(device: str) -> str:
    """Of the GPU that torch calls so, or of the processor."""
    if not device.startswith("cuda"):
        return processor()
    import torch

    return torch.cuda.get_device_name(device)


def _siblings(processor: int) -> str:
    """Equal for the hardware threads of one core."""
    path = Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
    try:
        return path.read_text()
    except OSError:
        return str(processor)


def _quota() -> int:
    """Whole processors the control group grants, rounded up; a very large number where it sets no limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        return 1 << 20
