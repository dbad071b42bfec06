"""Memory allocation of this process. Every package may import this; no torch."""

import ctypes

# Constants from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Makes malloc reuse freed memory instead of returning it to the system; does nothing without glibc.

    Otherwise activations of 50 MB or more cost a page fault for every 4 kB, each time: a third of the time of a large
    forward pass on a CPU. The process never shrinks.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, _NEVER)
    mallopt(_TOP_PAD, 64 * 2**20)
