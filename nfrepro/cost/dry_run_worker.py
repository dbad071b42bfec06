"""A dry run of one shape: `python -m nfrepro.cost.dry_run_worker`.

Reads one JSON line from standard input: `config` and `code_folders` of a run of the task `train`, `device`, `threads`,
`steps`, `seconds`.
Writes messages to standard output, one JSON line each: `doing` before each activity; `about`, the machine and the
network; `trial`, once per trial; and last `ended`, with the error, if there was one.
"""

import json
import sys
from typing import Any

from nfrepro.launch.worker import own_standard_output
from nfrepro.malloc import keep_freed_memory
from nfrepro.plugins.names import search_in
from nfrepro.tasks.options import TrainTask


def main() -> None:
    """Measures one shape."""
    keep_freed_memory()
    events = own_standard_output()

    def tell(kind: str, **content: Any) -> None:
        events.write(json.dumps({"kind": kind, **content}) + "\n")
        events.flush()

    order = json.loads(sys.stdin.readline())
    search_in(order["code_folders"])
    tell("doing", text="loading torch")
    import torch

    from nfrepro.tasks.dry_run import dry_run

    torch.set_num_threads(order["threads"])
    try:
        task = TrainTask.model_validate(order["config"])
        dry_run(task, order["device"], order["steps"], order["seconds"], tell)
    except Exception as error:
        problem = (str(error).splitlines() or [""])[0]
        tell("ended", problem=f"{type(error).__name__}: {problem}", memory=_is_memory(error))
    else:
        tell("ended", problem=None, memory=False)


def _is_memory(error: Exception) -> bool:
    """Whether memory ran out. torch's allocator for CPUs has no error type for that."""
    import torch

    cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return cpu or isinstance(error, MemoryError | torch.OutOfMemoryError)


if __name__ == "__main__":
    main()
