"""Description of a device, as results record it."""

import shutil
import subprocess
from contextlib import suppress
from functools import lru_cache
from typing import Any

import torch

from nfrepro.training.precision import multiplication


def describe_device(device: torch.device) -> dict[str, Any]:
    """The name of `device`; for a GPU also everything that the last bits of results depend on."""
    if device.type != "cuda":
        return {"device": device.type}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name,
        "gpu": {
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "driver": driver_version(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "multiplication": multiplication(),
            "deterministic": torch.backends.cudnn.deterministic,
        },
    }


@lru_cache(maxsize=1)
def driver_version() -> str | None:
    """The version of NVIDIA's driver, from nvidia-smi; None if that does not answer."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError, IndexError):
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()[0]
    return None
