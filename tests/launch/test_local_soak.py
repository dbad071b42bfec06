"""The parts of the local soak that need no sweep, and a very small one with some."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from local_faults import DAMAGES, KINDS, Strike, Victim, is_alive, schedule, strike

ROOT = Path(__file__).parents[2]


def test_faults_are_a_function_of_the_seed_and_of_every_kind() -> None:
    drawn = schedule(seed=0, runs=400)
    assert drawn == schedule(seed=0, runs=400)
    assert drawn != schedule(seed=1, runs=400)
    assert {len(strikes) for strikes in drawn} == {1, 2, 3, 4}
    every = [strike for strikes in drawn for strike in strikes]
    assert {strike.kind for strike in every} == set(KINDS)
    moments = Counter(strike.moment for strike in every)
    assert 0.4 < moments["checkpoint"] / len(every) < 0.6
    # Nothing can strike a run once it has ended.
    assert all(strike.moment != "end" for strikes in drawn for strike in strikes[:-1] if strikes[-1].moment != "end")


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_is_the_newest_and_its_worker_is_dead(tmp_path: Path, how: str) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    older, newest = (tmp_path / f"checkpoint-{step}.pt" for step in (1, 2))
    for path in (older, newest):
        path.write_bytes(bytes(100))
    fault = Strike(f"SIGKILL of the worker, newest checkpoint: {how}", "training", 0.0, 0.5)
    strike(fault, Victim(tmp_path, sleeper.pid, os.getpid()))
    assert not is_alive(sleeper.pid)
    sleeper.wait()
    assert older.read_bytes() == bytes(100)
    left = newest.read_bytes() if newest.exists() else None
    expected = {"delete": None, "truncate": bytes(50), "flip a bit": bytes(50) + b"\x04" + bytes(49)}
    assert left == expected[how]


@pytest.mark.slow
def test_a_small_soak_passes(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "slurm")])
    call = [sys.executable, str(ROOT / "tests" / "launch" / "local_soak.py"), "--runs", "4", "--seed", "3"]
    called = subprocess.run(
        [*call, "--report", str(tmp_path / "soak.md")],
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert called.returncode == 0, called.stdout + called.stderr
    assert "**Verdict: passed.**" in (tmp_path / "soak.md").read_text()
