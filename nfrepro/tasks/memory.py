"""Memory of a device, and the peak that this process held."""

import contextlib
from pathlib import Path

import torch

_KIB = 1024


class PeakMemory:
    """The peak of the memory held from now on, in addition to what is held now."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_reserved(device)
        else:
            # Resets the peak to what is held now; if that is not allowed, it remains the process's peak so far.
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")
            self.before = _own("VmRSS")

    def bytes(self) -> int:
        """The peak: on a GPU memory reserved by torch, which no other process can use; on a CPU resident memory."""
        peak = torch.cuda.max_memory_reserved(self.device) if self.device.type == "cuda" else _own("VmHWM")
        return peak - self.before


def total_bytes(device: torch.device) -> int:
    """Memory of the device; for a CPU the limit of its control group, if that is less."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return min(_machine("MemTotal"), _control_group_limit())


def available_bytes() -> int:
    """Memory of the machine that is not in use, or the limit of the control group, if that is less."""
    return min(_machine("MemAvailable"), _control_group_limit())


def _own(field: str) -> int:
    return _field(Path("/proc/self/status"), field)


def _machine(field: str) -> int:
    return _field(Path("/proc/meminfo"), field)


def _field(path: Path, name: str) -> int:
    line = next(line for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * _KIB


def _control_group_limit() -> int:
    """The memory limit of the control group; a very large number if there is none."""
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):
        return 1 << 62
