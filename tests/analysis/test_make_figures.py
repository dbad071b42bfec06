"""`make figures` in a folder of its own, with scripts that draw, have nothing to draw, and fail."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAYS = "import sys; print('{} draws', *sys.argv[1:])\n"
FAILS = "import sys; sys.exit('analysis: cannot')\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The Makefile, an environment that is installed already, and three scripts, each with a table."""
    for folder in ("analysis", ".venv/bin", *(f"results/{name}/laptop" for name in "abc")):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".venv" / ".installed").touch()
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    for name, state in (("a", "missing"), ("b", "completed"), ("c", "completed")):
        (tmp_path / "analysis" / f"{name}.py").write_text(SAYS.format(name))
        (tmp_path / "results" / name / "laptop" / "runs.csv").write_text(f"id,state,seed\nx,{state},0\ny,failed,1\n")
    return tmp_path


def make_figures(project: Path) -> "subprocess.CompletedProcess[str]":
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(
        ["make", "figures"], cwd=project, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def test_a_table_without_completed_runs_is_named_and_no_error(project: Path) -> None:
    called = make_figures(project)
    assert called.returncode == 0, called.stderr
    assert called.stdout.splitlines() == [
        "nothing to draw: results/a/laptop/runs.csv has no completed run",
        "b draws --scale laptop",
        "c draws --scale laptop",
    ]


def test_after_a_script_that_fails_the_others_are_drawn(project: Path) -> None:
    (project / "analysis" / "b.py").write_text(FAILS)
    called = make_figures(project)
    assert called.returncode != 0
    assert "c draws --scale laptop" in called.stdout
    assert "not drawn: results/b/laptop/runs.csv" in called.stderr
