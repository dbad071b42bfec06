"""What .ci/run answers, with a `make` that only says which target it was asked for, and fails where it is told to."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "run"
MAKE = '#!/bin/sh\necho "made $1"\n[ "$1" != "$FAILING" ]\n'


def answer(folder: Path, failing: str) -> "subprocess.CompletedProcess[str]":
    """What a copy of .ci/run says in `folder`, where `make FAILING` fails."""
    (folder / ".ci").mkdir()
    shutil.copy(SCRIPT, folder / ".ci")
    for part in ("programs", "temporary"):
        (folder / part).mkdir()
    (folder / "programs" / "make").write_text(MAKE)
    (folder / "programs" / "make").chmod(0o755)
    environment = os.environ | {
        "PATH": f"{folder / 'programs'}:{os.environ['PATH']}",
        "TMPDIR": str(folder / "temporary"),
        "FAILING": failing,
    }
    return subprocess.run(
        [folder / ".ci" / "run"], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("failing", ["nothing", "lint", "sweep", "test-all", "test-numeric", "test-slurm"])
def test_it_fails_where_one_of_its_parts_does_and_only_there(tmp_path: Path, failing: str) -> None:
    said = answer(tmp_path, failing)
    assert (said.returncode == 0) == (failing == "nothing"), said
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("failing", ["nothing", "test-all"])
def test_what_the_tests_on_slurm_said_is_printed_after_the_others(tmp_path: Path, failing: str) -> None:
    assert (
        answer(tmp_path, failing).stdout == "made lint\nmade sweep\nmade test-all\nmade test-numeric\nmade test-slurm\n"
    )
