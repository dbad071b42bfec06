"""Errors of a GPU: whose fault they are, and whether the process that met one can go on. Imports torch for none."""

import gc
import sys

# CUDA's own words for what a run does to itself: an index out of range, say. All other errors of a device are the
# machine's: memory that fails, a lost link, a driver that is too old.
_BY_THE_RUN = "device-side assert"
_OF_A_DEVICE = ("CUDA error", "CUDA driver", "No CUDA GPUs are available", "NVML", "CUDA unknown error")
# Memory that a process holds in addition to tensors: CUDA's context, cuDNN's and cuBLAS's workspaces.
_OVERHEAD_BYTES = 2 * 10**9


def is_of_device(error: Exception) -> bool:
    """Whether the machine's GPU is at fault, and not the run that met the error."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(error, RuntimeError):
        return False
    if isinstance(error, torch.OutOfMemoryError):
        return _others_hold_memory()
    text = str(error)
    return _BY_THE_RUN not in text and (
        isinstance(error, torch.AcceleratorError) or any(words in text for words in _OF_A_DEVICE)
    )


def device_works() -> bool:
    """Whether this process can still use the GPU that it used, if it used any: after some errors nothing works there
    until a new process makes a new context."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def free_device_memory() -> None:
    """Gives back to the GPU what no tensor needs, for the other processes that share it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized() and device_works():
        gc.collect()
        torch.cuda.empty_cache()


def _others_hold_memory() -> bool:
    """Whether other processes hold much of the current GPU's memory."""
    import torch

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved() > _OVERHEAD_BYTES
