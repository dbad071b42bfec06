"""What the signals of a scheduler ask of a job."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import submitit
from submitit.core.job_environment import JobEnvironment
from submitit.core.utils import DelayedSubmission, JobPaths

from nfrepro.launch.slurm_job import StopRequest

ASKS_TO_SAVE = JobEnvironment._usr_sig()


@pytest.fixture
def request_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StopRequest]:
    """As inside a job: submitit listens first."""
    before = {number: signal.getsignal(number) for number in (ASKS_TO_SAVE, signal.SIGTERM, signal.SIGCONT)}
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    submitit.JobEnvironment()._handle_signals(JobPaths(tmp_path, "1"), DelayedSubmission(print))
    request = StopRequest()
    request.listen()
    yield request
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("signals", "requeue"),
    [
        ([ASKS_TO_SAVE], True),
        ([signal.SIGTERM], False),
        # Preempted by what sends both.
        ([signal.SIGTERM, ASKS_TO_SAVE], True),
        # Cancelled while it saves.
        ([ASKS_TO_SAVE, signal.SIGTERM], False),
    ],
)
def test_a_job_comes_back_unless_it_is_ended(
    request_to_stop: StopRequest, signals: list[signal.Signals], requeue: bool
) -> None:
    assert not request_to_stop.is_set()
    for number in signals:
        os.kill(os.getpid(), number)
    assert request_to_stop.is_set()
    assert request_to_stop.requeue is requeue
