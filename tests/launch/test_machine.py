"""How many runs go at once."""

import pytest

from nfrepro.launch import machine


@pytest.mark.parametrize(
    ("gpus", "cores", "runs", "jobs", "devices", "threads"),
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
    devices: tuple[str, ...],
    threads: int,
) -> None:
    monkeypatch.setattr(machine, "count_gpus", lambda: gpus)
    monkeypatch.setattr(machine, "count_cores", lambda: cores)
    assert machine.share_machine(runs, jobs, None) == machine.Share(devices, threads)
    assert machine.share_machine(runs, jobs, 3) == machine.Share(devices, 3)


def test_this_machine_has_a_core() -> None:
    assert 1 <= machine.count_cores() <= 4096
