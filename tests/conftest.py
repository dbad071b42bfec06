"""What several rooms' tests share."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tiny_experiment import TINY, Call, command

# How long an example takes says more about the machine than about the example. Continuous integration tries the same
# examples each time: a change is not to fail for an example that it has nothing to do with.
settings.register_profile("untimed", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("untimed")


# Sweeps draw only where a test is about that: to start a script takes seconds.
os.environ["NFREPRO_DRAW"] = "0"


def pytest_configure(config: pytest.Config) -> None:
    # What a shell starts in the background ignores Ctrl-C, and so would the programs that are tested.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):  # one process tells of all tests
        config.pluginmanager.register(FailuresAsTheyCome(config), "failures-as-they-come")


class FailuresAsTheyCome:
    """Names a test that fails at once, not after the last one."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            reason = str(report.longrepr).strip().splitlines()
            terminal.write_line(f"\n{report.nodeid} failed in {report.when}: {reason[-1] if reason else ''}", red=True)


@pytest.fixture(autouse=True)
def no_figure_stays_open() -> Iterator[None]:
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture(autouse=True)
def the_same_draws_each_time() -> None:
    """Whatever a process has tested before: bounds for random numbers hold for most draws, not for all."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


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
        return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=900, check=False)

    return call
