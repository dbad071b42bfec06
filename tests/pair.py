"""Two processes of this machine that train runs together, as torchrun would start them."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

COUNT = 2


class Pair:
    """Call one by one: `pair(function, *arguments)` has both processes execute it, and returns what each of them got.

    `function` gets the `Processes` first; it has to be importable.
    """

    def __init__(self, device: str = "cpu") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        self.pipes, self.children = [], []
        for rank in range(COUNT):
            here, there = context.Pipe()
            self.pipes.append(here)
            self.children.append(context.Process(target=_serve, args=(rank, port, device, there), daemon=True))
        for child in self.children:
            child.start()

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        for pipe in self.pipes:
            pipe.send((function, arguments))
        results = [pipe.recv() for pipe in self.pipes]
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.send(None)
        for child in self.children:
            child.join(30)


def _serve(rank: int, port: int, device: str, pipe: Connection) -> None:
    import torch

    from nfrepro.training import gradients
    from nfrepro.training.distributed import init_processes

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(COUNT)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    gradients.BUCKET_BYTES = 2000  # several messages also for small networks
    with init_processes(device) as processes:
        while (work := pipe.recv()) is not None:
            function, arguments = work
            torch.set_num_threads(1)
            try:
                pipe.send(function(processes, *arguments))
            except Exception as error:
                pipe.send(error)


def train(
    processes: Any, options: Any, folder: Path, stop_at: int | None = None, device: str = "cpu"
) -> dict[str, Any] | None:
    """Trains in `folder`; the second process is asked to stop at its look `stop_at`. None: stopped."""
    from nfrepro.tasks.watched_training import run
    from nfrepro.training.context import Interrupted, RunContext

    looks = 0

    def should_stop() -> bool:
        nonlocal looks
        looks += 1
        return processes.rank == 1 and looks == stop_at

    folder.mkdir(exist_ok=True)
    try:
        return run(options, RunContext(folder, device, should_stop=should_stop, processes=processes)).final
    except Interrupted:
        return None
