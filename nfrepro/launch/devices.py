"""Devices of a run: GPUs and cores of this machine, divided among the runs that execute at once."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from nfrepro.errors import InputError
from nfrepro.runs.provenance import processor


@dataclass(frozen=True)
class Resources:
    """Workers, and the resources of each."""

    devices: tuple[str, ...]  # one entry per process; those of a worker are adjacent
    threads: int  # of each process
    processes: int = 1  # of each worker, which share every run that it executes

    @property
    def workers(self) -> int:
        return len(self.devices) // self.processes

    def devices_of(self, worker: int) -> tuple[str, ...]:
        """The devices of the processes of a worker; workers are numbered from 0."""
        return self.devices[worker * self.processes : (worker + 1) * self.processes]


def divide_machine(runs: int, jobs: int | None, threads: int | None, processes: int = 1) -> Resources:
    """Divides this machine among `runs` runs of `processes` processes each.

    `jobs` runs execute at once; by default, as many as the GPUs, or else the physical cores, allow.

    Each run gets `threads` threads, or its share of the cores. Raises `InputError` if a run needs more GPUs than
    there are.
    """
    gpus, cores = count_gpus(), count_cores()
    if gpus and processes > gpus:
        raise InputError(f"--processes {processes}: each needs a GPU of its own, and this machine has {gpus}")
    at_once = jobs if jobs is not None else (gpus or cores) // processes
    workers = max(1, min(at_once, runs))
    devices = tuple(f"cuda:{number % gpus}" if gpus else "cpu" for number in range(workers * processes))
    of_a_run = cores // workers if threads is None else threads
    return Resources(devices, max(1, of_a_run // processes), processes)


def count_cores() -> int:
    """The number of physical cores that this process may use, within the quota of its control group."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = len({_siblings(processor) for processor in allowed})
    return max(1, min(cores, _quota()))


def count_gpus() -> int:
    """The number of GPUs that torch can use; torch is loaded only if a driver is installed.

    Raises `InputError` if there are GPUs that torch cannot use, e.g. because the driver is too old.
    """
    if shutil.which("nvidia-smi") is None and not Path("/proc/driver/nvidia").exists():
        return 0
    import torch

    count = torch.cuda.device_count()
    if count and not torch.cuda.is_available():
        raise InputError(
            f"{count} GPUs, but torch {torch.__version__} cannot use them: {_reason()} "
            "(to compute on the processor, hide them: CUDA_VISIBLE_DEVICES=)"
        )
    return count


def _reason() -> str:
    """Torch's reason for not being able to use the GPU."""
    import torch

    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return (str(error).splitlines() or ["no reason given"])[0]
    return "no reason given"


def device_name(device: str) -> str:
    """The name of the GPU `device`, or of the processor."""
    if not device.startswith("cuda"):
        return processor()
    import torch

    return torch.cuda.get_device_name(device)


def _siblings(processor: int) -> str:
    """A key that is equal for the hardware threads of one core."""
    path = Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
    try:
        return path.read_text()
    except OSError:
        return str(processor)


def _quota() -> int:
    """The number of processors that the control group grants, rounded up; a very large number if it sets no limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        return 1 << 20
