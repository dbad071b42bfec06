"""What several rooms' tests share."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tiny_experiment import TINY, Call, command

# How long an example takes says more about the machine than about the example.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def no_figure_stays_open() -> Iterator[None]:
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture
def experiments(tmp_path: Path) -> Path:
    """A folder with the experiment `tiny`: 4 runs of 12 steps."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(TINY)
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def nfrepro(experiments: Path, results: Path) -> Call:
    """`nfrepro(*arguments)`: calls the command line on the small experiment and waits for it."""

    def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
        line, environment = command(experiments, results, arguments)
        return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return call
