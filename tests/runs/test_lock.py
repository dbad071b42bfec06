"""The claim on a run's folder: exclusive between processes and machines, never stale for long, fenced when lost."""

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nfrepro.runs import lock as module
from nfrepro.runs.lock import LockLost, RunLocked, hold_lock, is_locked

HOLD = """
import sys, time
from pathlib import Path
from nfrepro.runs.lock import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""

RACE = """
import sys, time
from pathlib import Path
from nfrepro.runs.lock import RunLocked, hold_lock
folder = Path(sys.argv[1])
for turn in range(300):
    try:
        with hold_lock(folder):
            (folder / "inside").mkdir()  # fails if anybody else is inside
            (folder / "inside").rmdir()
    except RunLocked:
        pass
print("ok")
"""


def holder(folder: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_claim_excludes_others_and_ends_with_its_process(tmp_path: Path) -> None:
    process = holder(tmp_path)
    assert is_locked(tmp_path)
    with pytest.raises(RunLocked), hold_lock(tmp_path):
        pytest.fail("two holders")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not is_locked(tmp_path)
    with hold_lock(tmp_path):
        assert is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_many_processes_are_never_inside_together(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [racer.communicate(timeout=300)[0] for racer in racers] == ["ok\n"] * 4


# A holder on a machine whose locks nobody else sees. It beats as often as it is told to; `frozen` it does not.
HOLD_ELSEWHERE = """
import sys, time
from pathlib import Path
from nfrepro.runs import lock as module
module._machine = lambda: "another machine"
module._lock = lambda descriptor, operation: True
module.SECONDS_BETWEEN_BEATS = 3600.0 if sys.argv[2] == "frozen" else 0.05
with module.hold_lock(Path(sys.argv[1])) as held:
    print("held", flush=True)
    sys.stdin.readline()
    try:
        held.check()
    except module.LockLost:
        print("lost", flush=True)
    else:
        print("kept", flush=True)
"""

RACE_ELSEWHERE = """
import sys
from pathlib import Path
from nfrepro.runs import lock as module
module._machine = lambda: f"machine of {sys.argv[2]}"
module._lock = lambda descriptor, operation: True
folder = Path(sys.argv[1])
taken = 0
while taken < 15:
    try:
        with module.hold_lock(folder) as held:
            (folder / "inside").mkdir()
            (folder / "inside").rmdir()
            held.check()
            taken += 1
    except module.RunLocked:
        pass
print(taken)
"""


def holder_elsewhere(folder: Path, heart: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HOLD_ELSEWHERE, str(folder), heart]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_claim_says_who_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert module.holder(tmp_path) is None
    with hold_lock(tmp_path):
        found = module.holder(tmp_path)
        assert found is not None
        assert (found.process, found.job) == (os.getpid(), "17")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert module.scheduler_job() == "17_3"


def make_older(folder: Path, seconds: float) -> None:
    """Makes the last heartbeat of the claim on `folder` so old."""
    os.utime(folder / "claim", (time.time() - seconds,) * 2)


def test_a_beating_claim_of_another_machine_is_left_alone(tmp_path: Path) -> None:
    process = holder_elsewhere(tmp_path, "beating")
    make_older(tmp_path, 2 * module.SECONDS_UNTIL_DEAD)
    deadline = time.monotonic() + 300
    while time.time() - (tmp_path / "claim").stat().st_mtime > module.SECONDS_UNTIL_DEAD:
        assert time.monotonic() < deadline, "its heart does not beat"
        time.sleep(0.01)
    assert is_locked(tmp_path)
    with pytest.raises(RunLocked), hold_lock(tmp_path):
        pytest.fail("two holders")
    assert process.communicate("\n", timeout=300)[0] == "kept\n"
    assert list(tmp_path.iterdir()) == []


def test_a_frozen_claim_of_another_machine_is_taken_and_its_holder_is_told(tmp_path: Path) -> None:
    process = holder_elsewhere(tmp_path, "frozen")
    with pytest.raises(RunLocked), hold_lock(tmp_path):
        pytest.fail("taken too early")
    make_older(tmp_path, 2 * module.SECONDS_UNTIL_DEAD)
    assert not is_locked(tmp_path)
    with hold_lock(tmp_path) as held:
        assert process.communicate("\n", timeout=300)[0] == "lost\n"
        held.check()  # its release has not taken ours away
        assert is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_heart_notices_a_lost_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_BEATS", 0.02)
    with hold_lock(tmp_path) as held:
        (tmp_path / "claim").unlink()
        deadline = time.monotonic() + 300
        while not held.lost:
            assert time.monotonic() < deadline
        with pytest.raises(LockLost):
            held.check()


def test_machines_without_common_locks_are_never_inside_together(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE_ELSEWHERE, str(tmp_path), str(number)], stdout=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    outputs = [racer.communicate(timeout=300)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4
    assert outputs == ["15\n"] * 4


def test_without_any_locks_the_heartbeat_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with hold_lock(tmp_path), pytest.raises(RunLocked), hold_lock(tmp_path):
        pytest.fail("two holders")
    assert list(tmp_path.iterdir()) == []


def left_elsewhere(folder: Path, seconds: float) -> Path:
    """The claim of a holder on another machine that was dated `seconds` from now, and is not touched again."""
    path = folder / "claim"
    path.write_text(json.dumps({"machine": "another", "host": "node-7", "process": 3, "job": None, "since": 0.0}))
    os.utime(path, (time.time() + seconds,) * 2)
    return path


@pytest.mark.parametrize("seconds", [-1000.0, 1000.0, 1e8])
def test_a_claim_of_another_machine_is_dead_once_its_date_is_far_from_now(tmp_path: Path, seconds: float) -> None:
    left_elsewhere(tmp_path, seconds)
    seen = module.read_lock(tmp_path)
    assert seen is not None
    assert seen.life == "silent"
    assert not is_locked(tmp_path)
    with hold_lock(tmp_path):
        assert is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", [-60.0, 60.0])
def test_who_finds_a_claim_taken_learns_by_whom_and_since_when(tmp_path: Path, seconds: float) -> None:
    path = left_elsewhere(tmp_path, seconds)
    with pytest.raises(RunLocked) as taken, hold_lock(tmp_path):
        pytest.fail("two holders")
    age = re.fullmatch(
        rf"process 3 on node-7 \({re.escape(str(path))}, last sign of life (\d+) s ago\)", str(taken.value)
    )
    assert age is not None
    assert 60 <= int(age[1]) < 120 if seconds < 0 else int(age[1]) == 0


def test_a_named_pipe_in_place_of_a_claim_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "claim")
    for act in (module.read_lock, is_locked, lambda folder: hold_lock(folder).__enter__()):
        with pytest.raises(OSError, match="not a regular file") as refused:
            act(tmp_path)
        assert refused.value.filename == str(tmp_path / "claim")
    assert module.holder(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["claim"]


def test_a_file_system_that_fails_is_named_by_the_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left") as failed, hold_lock(tmp_path):
        pytest.fail("held")
    assert failed.value.filename == str(tmp_path / "claim")
    assert list(tmp_path.iterdir()) == []


def test_a_claim_whose_beginnings_are_tidied_away_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tidy_first(source: Path, target: Path) -> None:
        monkeypatch.undo()
        module.remove_unfinished(tmp_path)
        os.link(source, target)

    monkeypatch.setattr(os, "link", tidy_first)
    with hold_lock(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["claim"]
        assert is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []
