"""GPU errors: whose fault they are, and whether the process can continue after one. Never loads torch just for that."""

import gc
import sys

# CUDA's message for an error caused by the run itself, such as an index out of range. All other device errors are the
# machine's fault: failing memory, a lost link, a driver that is too old.
_BY_THE_RUN = "device-side assert"
_OF_A_DEVICE = ("CUDA error", "CUDA driver", "No CUDA GPUs are available", "NVML", "CUDA unknown error")
# Memory that a process holds in addition to tensors: CUDA's context, cuDNN's and cuBLAS's workspaces.
_OVERHEAD_BYTES = 2 * 10**9


def is_of_device(error: Exception) -> bool:
    """Whether the machine's GPU is at fault, rather than the run that hit the error."""
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
    """Whether this process can still use its GPU; true if it never used one.

    After some errors nothing works on the GPU until a new process creates a new context.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def free_device_memory() -> None:
    """Frees GPU memory that no tensor needs, for the other processes that share the GPU."""
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
