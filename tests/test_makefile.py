"""The Makefile as a shell sees it: each variable reaches the command line as one word, whatever is in it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Writes down how it was called.
PROGRAM = f"""\
#!{sys.executable}
import json, os, sys
with open("calls.jsonl", "a") as calls:
    print(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]), file=calls)
"""
ODD = [
    "two words",
    "it's",
    '"; touch hacked; "',
    "'; touch hacked; '",
    "$$(touch hacked)",
    "`touch hacked`",
    "a*b",
    "a;b",
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The Makefile, and an environment that is installed already."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("nfrepro", "python"):
        (programs / name).write_text(PROGRAM)
        (programs / name).chmod(0o755)
    for stamp in (".installed", ".test-tools"):
        (tmp_path / ".venv" / stamp).touch()
    return tmp_path


def calls(project: Path, *arguments: str) -> list[list[str]]:
    """What `make` with these arguments calls, program first."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    made = subprocess.run(
        ["make", *arguments], cwd=project, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert made.returncode == 0, made.stderr
    assert not (project / "hacked").exists()
    path = project / "calls.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    path.unlink(missing_ok=True)
    return found


@pytest.mark.parametrize("text", ODD)
def test_odd_values_stay_one_word(project: Path, text: str) -> None:
    word = text.replace("$$", "$")
    names = ("EXP", "SCALE", "CLUSTER", "JOBS", "PROCESSES", "FORCE")
    given = [f"{name}={text}" for name in names]
    (sweep,) = calls(project, "sweep", *given, "EXECUTOR=slurm")
    options = {"--scale": word, "--executor": "slurm", "--jobs": word, "--processes": word}
    options |= {"--force": word, "--cluster": word}
    assert sweep == ["nfrepro", "sweep", word, *(part for option in options.items() for part in option)]
    for verb in ("plan", "status", "dry-run"):
        (call,) = calls(project, verb, *given)
        assert call == ["nfrepro", verb, word, "--scale", word]
    (logs,) = calls(project, "logs", *given, f"RUN={text}")
    assert logs == ["nfrepro", "logs", word, word, "--scale", word, "--follow"]
    (settle,) = calls(project, "settle", *given, f"HOURS={text}", f"EXECUTOR={text}")
    options = {"--scale": word, "--executor": word, "--hours": word, "--jobs": word}
    assert settle == ["nfrepro", "settle", word, *(part for option in options.items() for part in option)]
    assert calls(project, "help", *given) == []


def test_a_sweep_is_one_call_and_figures_are_one_for_each_table(project: Path) -> None:
    scale = ["--scale", "laptop"]
    (sweep,) = calls(project, "sweep", "EXP=elsewhere/my figure.yaml", "SET=a=1 b='2'")
    options = [*scale, "--set", "a=1", "--set", "b='2'", "--executor", "local"]
    assert sweep == ["nfrepro", "sweep", "elsewhere/my figure.yaml", *options]
    (project / "analysis").mkdir()
    (project / "analysis" / "mine.py").touch()
    for name in ("mine", "own"):
        folder = project / "results" / name / "laptop"
        folder.mkdir(parents=True)
        (folder / "runs.csv").write_text("id,state,seed\nrun,completed,0\n")
    assert calls(project, "figures") == [
        ["python", "analysis/mine.py", *scale],
        ["python", "-m", "nfrepro.plots.default", "own", *scale],
    ]
    (settle,) = calls(project, "settle")
    assert settle == ["nfrepro", "settle", "--scale", "overnight", "--executor", "local"]
