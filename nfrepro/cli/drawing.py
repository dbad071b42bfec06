"""Drawing after a sweep: the experiment's own analysis script, or the default one."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from nfrepro.specs import Run


def draw_sweep(runs: Sequence[Run], results: Path, overrides: Sequence[str] | None, experiments: Path) -> int:
    """Draw the table and figure of a sweep and return the exit status of the script."""
    experiment, scale = runs[0].experiment, runs[0].scale
    line = [sys.executable, *_script(experiment, experiments), "--scale", scale, "--results", str(results)]
    sys.stdout.flush()
    return subprocess.run([*line, *(f"--set={text}" for text in overrides or ())], check=False).returncode


def has_completed(runs: Sequence[Run], results: Path) -> bool:
    """Whether there is a completed run to draw."""
    from nfrepro.runs import redo

    return any(redo.read_work(results, run).state == "completed" for run in runs)


def _script(experiment: str, experiments: Path) -> list[str]:
    """The arguments of Python: analysis/EXP.py of the same project, or else a module that draws any experiment."""
    script = experiments.parent / "analysis" / f"{experiment}.py"
    return [str(script)] if script.is_file() else ["-m", "nfrepro.plots.default", experiment]
