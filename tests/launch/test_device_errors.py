"""Errors of a GPU: which of them are the run's own, and what becomes of the runs after it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nfrepro.errors import InputError
from nfrepro.launch import device_errors, devices
from nfrepro.launch.device_errors import is_of_device
from nfrepro.launch.execute import Ended, Placement, execute
from nfrepro.runs import store
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.registry import SCHEMAS, Task
from nfrepro.training.context import RunContext

OF_THE_MACHINE = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("The NVIDIA driver on your system is too old (CUDA driver version 11040)"),
    RuntimeError("No CUDA GPUs are available"),
]
OF_THE_RUN = [
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
    RuntimeError("Given groups=1, weight of size [64, 3, 7, 7], expected input to have 3 channels"),
    ValueError("CUDA error: said by something else"),
]


@pytest.mark.parametrize("error", OF_THE_MACHINE, ids=str)
def test_the_machine_is_at_fault(error: Exception) -> None:
    assert is_of_device(error)


@pytest.mark.parametrize("error", OF_THE_RUN, ids=str)
def test_the_run_is_at_fault(error: Exception) -> None:
    assert not is_of_device(error)


@pytest.mark.parametrize("others_bytes", [0, 30 * 10**9])
def test_too_little_memory_is_the_fault_of_those_who_share_the_gpu(
    monkeypatch: pytest.MonkeyPatch, others_bytes: int
) -> None:
    own = 40 * 10**9
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (80 * 10**9 - own - others_bytes, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: own)
    assert is_of_device(torch.OutOfMemoryError("CUDA out of memory")) == (others_bytes > 0)


@pytest.fixture
def run(experiments: Path) -> Run:
    return expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)[0]


def execute_with(error: Exception, run: Run, results: Path, monkeypatch: pytest.MonkeyPatch) -> Ended:
    def broken(task: Task, options: Any, ctx: RunContext) -> Outcome:
        raise error

    monkeypatch.setattr(Task, "run", broken)
    return execute(run, Placement(results, "cpu", 1, 60.0), lambda progress: None, lambda text: None, lambda: False)


def test_a_fault_of_the_machine_leaves_the_run_to_the_next_sweep(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = execute_with(OF_THE_MACHINE[0], run, results, monkeypatch)
    assert ended.ending == "interrupted"
    assert "illegal memory access" in ended.text
    assert store.read(store.run_folder(results, run)).state == "interrupted"


def test_a_fault_of_the_run_is_recorded(run: Run, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert execute_with(OF_THE_RUN[0], run, results, monkeypatch).ending == "failed"
    assert store.read(store.run_folder(results, run)).state == "failed"


def test_a_process_whose_gpu_works_no_more_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OF_THE_MACHINE[0]

    assert device_errors.device_works()  # it has used none
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    assert not device_errors.device_works()
    device_errors.free_device_memory()  # does not raise, either


def test_gpus_that_torch_cannot_use_are_named_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).")

    monkeypatch.setattr(devices.shutil, "which", lambda name: "/usr/bin/nvidia-smi")  # type: ignore[attr-defined]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(InputError, match=r"2 GPUs, but torch .* cannot use them: The NVIDIA driver .* is too old"):
        devices.count_gpus()
