"""Named random streams. Every package may import this; no torch."""

import hashlib


def stream_seed(name: str, *numbers: int) -> int:
    """A 63-bit seed for the stream `name` (say `order`) and its numbers (say seed and epoch).

    Stable across machines, processes and Python versions (Python's own `hash` is salted); streams of
    different names or numbers are independent, so that adding one never shifts another.
    """
    text = ":".join([name, *(str(int(number)) for number in numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
