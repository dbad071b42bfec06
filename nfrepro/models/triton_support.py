"""Devices on which Triton kernels run: NVIDIA GPUs, with a C compiler, which Triton needs once to load them."""

import os
import shutil
from functools import lru_cache
from importlib.util import find_spec

import torch


def runs_on(device: torch.device) -> bool:
    """Whether the kernels run on `device`. This holds for "meta", where operators are counted but nothing computed."""
    return device.type == "meta" or (device.type == "cuda" and _is_usable())


@lru_cache(maxsize=1)
def _is_usable() -> bool:
    compilers = (os.environ.get("CC"), "gcc", "clang", "cc")
    return find_spec("triton") is not None and any(shutil.which(name) for name in compilers if name)
