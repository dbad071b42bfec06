"""Figures depend on the stored runs alone: not on the order of hashes, the place, the time zone or the language."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def drawn(experiment: str, place: Path, **environment: str) -> dict[str, bytes]:
    """All files next to the stored table, drawn in a process of its own in another place."""
    folder = place / "results" / experiment / "laptop"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "results" / experiment / "laptop" / "runs.csv", folder)
    (place / "results" / "runs").symlink_to(ROOT / "results" / "runs")
    subprocess.run(
        [sys.executable, str(ROOT / "analysis" / f"{experiment}.py"), "--results", "results"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        check=True,
        timeout=300,
    )
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("experiment", ["large_batch", pytest.param("covariate_shift", marks=pytest.mark.slow)])
def test_a_figure_is_drawn_alike_byte_for_byte(experiment: str, tmp_path: Path) -> None:
    first = drawn(experiment, tmp_path / "first", PYTHONHASHSEED="1", TZ="UTC", LC_ALL="C")
    again = drawn(experiment, tmp_path / "again", PYTHONHASHSEED="2", TZ="Asia/Tokyo", LC_ALL="C.UTF-8")
    assert {Path(name).suffix for name in first} == {".csv", ".md", ".png", ".pdf"}
    assert [name for name, content in first.items() if again[name] != content] == []
    # Tables do not depend on a processor's last digits, nor on versions of what draws.
    stored = ROOT / "results" / experiment / "laptop"
    assert [name for name in first if name.endswith(".md") and first[name] != (stored / name).read_bytes()] == []
