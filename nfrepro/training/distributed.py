"""The processes that train one run together, and their communication. No torch unless there are several.

Every process takes its share of each batch; sums over the processes then make one step on the whole batch. The first
process, of rank 0, reads and writes files; the others write nothing.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from nfrepro.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

# The longest that processes wait for each other, for example while the first one reads a checkpoint. A killed process
# is noticed at once if its connections break.
TIMEOUT = timedelta(minutes=15)
# The first process serves the store: it waits at most this long for the others to finish reading from it.
SECONDS_TO_LEAVE = 10.0


class ProcessLost(Exception):
    """Another process of the run has died, or cannot be reached."""


@dataclass(frozen=True)
class Processes:
    """This process among the `count` that train one run together. By default it is alone."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0  # among those on this machine
    store: "Store | None" = field(default=None, repr=False, compare=False)

    def share(self, rows: int) -> range:
        """This process's part of `rows` rows; all parts together are all rows, in order."""
        return range(self.rank * rows // self.count, (self.rank + 1) * rows // self.count)

    @contextmanager
    def connected(self, device: str) -> Iterator[None]:
        """Opens the connections for one run; if they break, other runs are not affected. Raises `ProcessLost`."""
        if self.count == 1:
            yield
            return
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore

        assert self.store is not None
        with lost_processes():
            store = PrefixStore(f"connections-{self._number('connections')}", self.store)
            # Flags and numbers always go by gloo: they do not wait for a GPU.
            backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
            dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.count, timeout=TIMEOUT)
        try:
            yield
        finally:
            dist.destroy_process_group()

    def all_reduce(self, x: "Tensor") -> "Tensor":
        """Replaces `x`, in place, by its sum over the processes."""
        if self.count > 1:
            import torch.distributed as dist

            with lost_processes():
                dist.all_reduce(x)
        return x

    def all_reduce_numbers(self, numbers: Sequence[float]) -> list[float]:
        """The sum over the processes of each number."""
        if self.count == 1:
            return list(numbers)
        import torch

        found: list[float] = self.all_reduce(torch.tensor(numbers, dtype=torch.float64)).tolist()
        return found

    def broadcast(self, tensors: Sequence["Tensor"]) -> None:
        """Overwrites `tensors` with those of the first process."""
        if self.count > 1:
            import torch.distributed as dist

            with lost_processes():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def broadcast_bytes(self, content: bytes | None) -> bytes | None:
        """The content of the first process; that of the others is ignored."""
        if self.count == 1:
            return content
        import torch

        size = torch.tensor(-1 if content is None else len(content))
        self.broadcast([size])
        if size < 0:
            return None
        buffer = torch.empty(int(size), dtype=torch.uint8)
        if self.rank == 0 and content:
            buffer = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        self.broadcast([buffer])
        return buffer.numpy().tobytes()

    def kv_store(self) -> "KVStore":
        """A new store, the same in all processes; each of them must call this equally often."""
        return KVStore(self, self._number("conversations"))

    def _number(self, what: str) -> int:
        return 0 if self.store is None else self.store.add(f"{what}-of-{self.rank}", 1)


ALONE = Processes()


@dataclass(frozen=True)
class KVStore:
    """Key-value store of the processes of one run; it works even if the connections between them are broken."""

    processes: Processes
    number: int

    def set(self, topic: str, text: str) -> None:
        """Store `text` for the other processes, which may ask for it now or later."""
        if self.processes.store is not None:
            with lost_processes():
                self.processes.store.set(f"{self.number}/{topic}", text)

    def wait(self, topic: str, patience: timedelta = TIMEOUT) -> str:
        """The text stored under `topic`, as soon as it is there. Raises `ProcessLost` if it is not there in time."""
        assert self.processes.store is not None
        key = f"{self.number}/{topic}"
        with lost_processes():
            self.processes.store.wait([key], patience)
            return self.processes.store.get(key).decode()


@contextmanager
def init_processes(device: str) -> Iterator[Processes]:
    """The processes given by torchrun's variables RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.

    Without WORLD_SIZE, or with 1, this process is alone. With `device` "cuda", several processes each get a separate
    GPU. Raises `InputError` for invalid variables, `ProcessLost` if the processes do not find each other.
    """
    count = _variable("WORLD_SIZE", 1)
    if count == 1:
        yield Processes()
        return
    import torch
    from torch.distributed.rendezvous import rendezvous

    rank, local_rank = _variable("RANK"), _variable("LOCAL_RANK")
    if device.startswith("cuda"):
        torch.cuda.set_device(local_rank % torch.cuda.device_count() if device == "cuda" else device)
    with lost_processes():
        store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
    yield Processes(rank, count, local_rank, store)
    if rank > 0:
        with lost_processes():
            store.add("left", 1)
    else:
        deadline = time.monotonic() + SECONDS_TO_LEAVE
        while store.add("left", 0) < count - 1 and time.monotonic() < deadline:
            time.sleep(0.05)


@contextmanager
def lost_processes() -> Iterator[None]:
    """Raise `ProcessLost` for torch's errors about broken connections and timeouts."""
    try:
        yield
    except RuntimeError as error:  # torch's own errors are subclasses, and gloo's are plain RuntimeErrors
        raise ProcessLost((str(error).splitlines() or [""])[0]) from error


def _variable(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, default)
    try:
        return int(text)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise InputError(f"environment variable {name}: expected a number, found {text!r} (see torchrun)") from None
