"""How many runs go at once."""

import pytest

from nfrepro.errors import InputError
from nfrepro.launch import devices


@pytest.mark.parametrize(
    ("gpus", "cores", "runs", "jobs", "of_workers", "threads"),
    [
        (0, 2, 15, None, ("cpu", "cpu"), 1),
        (0, 8, 15, 2, ("cpu", "cpu"), 4),
        (0, 8, 1, None, ("cpu",), 8),
        (0, 2, 15, 4, ("cpu",) * 4, 1),
        (2, 16, 15, None, ("cuda:0", "cuda:1"), 8),
        (2, 16, 15, 3, ("cuda:0", "cuda:1", "cuda:0"), 5),
    ],
)
def test_share(
    monkeypatch: pytest.MonkeyPatch,
    gpus: int,
    cores: int,
    runs: int,
    jobs: int | None,
    of_workers: tuple[str, ...],
    threads: int,
) -> None:
    monkeypatch.setattr(devices, "count_gpus", lambda: gpus)
    monkeypatch.setattr(devices, "count_cores", lambda: cores)
    assert devices.divide_machine(runs, jobs, None) == devices.Resources(of_workers, threads)
    assert devices.divide_machine(runs, jobs, 3) == devices.Resources(of_workers, 3)


@pytest.mark.parametrize(
    ("gpus", "cores", "runs", "jobs", "processes", "of_workers", "threads"),
    [
        (0, 8, 15, None, 2, ("cpu",) * 8, 1),
        (0, 8, 1, None, 2, ("cpu", "cpu"), 4),
        (0, 2, 15, None, 4, ("cpu",) * 4, 1),
        (0, 8, 15, 2, 2, ("cpu",) * 4, 2),
        (8, 32, 15, None, 4, tuple(f"cuda:{number}" for number in range(8)), 4),
        (3, 16, 15, 2, 2, ("cuda:0", "cuda:1", "cuda:2", "cuda:0"), 4),
    ],
)
def test_a_worker_of_several_processes_has_a_device_for_each(
    monkeypatch: pytest.MonkeyPatch,
    gpus: int,
    cores: int,
    runs: int,
    jobs: int | None,
    processes: int,
    of_workers: tuple[str, ...],
    threads: int,
) -> None:
    monkeypatch.setattr(devices, "count_gpus", lambda: gpus)
    monkeypatch.setattr(devices, "count_cores", lambda: cores)
    share = devices.divide_machine(runs, jobs, None, processes)
    assert share == devices.Resources(of_workers, threads, processes)
    of_each = [share.devices_of(worker) for worker in range(share.workers)]
    assert tuple(device for some in of_each for device in some) == of_workers
    assert all(len(some) == processes and (gpus == 0 or len(set(some)) == processes) for some in of_each)
    assert devices.divide_machine(runs, jobs, 6, processes).threads == max(1, 6 // processes)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "count_gpus", lambda: 2)
    with pytest.raises(InputError, match="--processes 4: each needs a GPU of its own, and this machine has 2"):
        devices.divide_machine(1, None, None, 4)


def test_this_machine_has_a_core() -> None:
    assert 1 <= devices.count_cores() <= 4096
