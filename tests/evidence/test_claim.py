"""The claim on a run's folder: exclusive between processes, never stale."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nfrepro.evidence.claim import Claimed, claim, is_claimed

HOLD = """
import sys, time
from pathlib import Path
from nfrepro.evidence.claim import claim
with claim(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""

RACE = """
import sys, time
from pathlib import Path
from nfrepro.evidence.claim import Claimed, claim
folder = Path(sys.argv[1])
for turn in range(300):
    try:
        with claim(folder):
            (folder / "inside").mkdir()  # fails if anybody else is inside
            (folder / "inside").rmdir()
    except Claimed:
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
    assert is_claimed(tmp_path)
    with pytest.raises(Claimed), claim(tmp_path):
        pytest.fail("two holders")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not is_claimed(tmp_path)
    with claim(tmp_path):
        assert is_claimed(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_many_processes_are_never_inside_together(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [racer.communicate(timeout=120)[0] for racer in racers] == ["ok\n"] * 4
