"""Drawing after a sweep: the experiment's own analysis script, or the default one."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from nfrepro.specs import Run


def draw_sweep(runs: Sequence[Run], results: Path, overrides: Sequence[str] | None, experiments: Path) -> int:
    """Draw the table and figure of a sweep and return the script's exit status; 0 if no run is completed yet."""
    from nfrepro.runs import redo

    if all(redo.read_work(results, run).state != "completed" for run in runs):
        return 0
    experiment, scale = runs[0].experiment, runs[0].scale
    line = [sys.executable, *_script(experiment, experiments), "--scale", scale, "--results", str(results)]
    sys.stdout.flush()
    return subprocess.run([*line, *(f"--set={text}" for text in overrides or ())], check=False).returncode


def _script(experiment: str, experiments: Path) -> list[str]:
    """The arguments of python: analysis/EXP.py of the same project, or else a module that draws any experiment."""
    script = experiments.parent / "analysis" / f"{experiment}.py"
    return [str(script)] if script.is_file() else ["-m", "nfrepro.plots.default", experiment]
