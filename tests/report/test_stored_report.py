"""The stored report is what the stored results give, and what it does not support is explained."""

import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from project_scripts import script

from nfrepro.report.reading import Report, read_report
from nfrepro.report.writing import write_report
from nfrepro.tasks.registry import SCHEMAS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


@pytest.fixture(scope="module")
def report() -> Report:
    return read_report(ROOT / "experiments", RESULTS, SCHEMAS)


def test_it_is_what_the_stored_results_give(report: Report, tmp_path: Path) -> None:
    for path in write_report(report, tmp_path):
        assert path.read_bytes() == (RESULTS / path.name).read_bytes(), f"{path.name}: run `make report`"


def test_what_is_contradicted_or_inconclusive_has_a_likely_reason(report: Report) -> None:
    assert report.unexplained() == [], "write one under `explained` in experiments/claims.yaml"


def test_the_readmes_verdicts_are_those_of_the_report() -> None:
    verdicts = script("verdicts", "docs")
    assert verdicts.page() == verdicts.PAGE.read_text(encoding="utf-8"), "run `make report`"


def test_the_readme_shows_the_signal_the_verdicts_and_training_overnight() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^!\[[^]]*\]\((.*)\)$", text, flags=re.MULTILINE) == [
        "results/figure_1/overnight/figure_1.png",
        "results/verdicts.svg",
        "results/alpha_ablation/overnight/alpha_ablation.png",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alpha_ablation", "figure_1"])
def test_figures_are_drawn_byte_for_byte(name: str, tmp_path: Path) -> None:
    for line in (RESULTS / "versions.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        needed = Requirement(line)
        if needed.marker is not None and not needed.marker.evaluate():
            pytest.skip(f"Python {platform.python_version()} on {platform.machine()}: not what drew the stored figures")
        if version(needed.name) not in needed.specifier:
            pytest.skip(
                f"{needed.name} {version(needed.name)} did not draw the stored figures, see results/versions.txt"
            )
    shutil.copytree(RESULTS / name, tmp_path / name)
    (tmp_path / "runs").symlink_to(RESULTS / "runs")
    drawn = [tmp_path / name / "laptop" / f"{name}{suffix}" for suffix in (".pdf", ".png", ".md")]
    for path in drawn:
        path.unlink()
    line = [sys.executable, str(ROOT / "analysis" / f"{name}.py"), "--results", str(tmp_path)]
    subprocess.run(line, check=True, capture_output=True)
    for path in drawn:
        assert path.read_bytes() == (RESULTS / path.relative_to(tmp_path)).read_bytes(), path.name
