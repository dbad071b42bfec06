"""Where runs stand, told from their folders and from what a scheduler said."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_experiment import TINY

from nfrepro.cli.status_table import table
from nfrepro.runs import cancellation, progress, store
from nfrepro.runs import lock as run_lock
from nfrepro.runs.status import QueuedJob, Row, observe, rows
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

GOLDEN = Path(__file__).parent / "status_table.txt"
JOB = {"SLURM_JOB_ID": "30", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3"}


@pytest.fixture
def run(experiments: Path) -> Run:
    return expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)[0]


def begun(results: Path, run: Run, status: str, final: dict[str, Any] | None = None, **environment: str) -> Path:
    folder = store.run_folder(results, run)
    folder.mkdir(parents=True, exist_ok=True)
    kept = store.description_of(run)
    provenance = {"environment": environment}
    store.write_record(folder, {**kept, "status": status, "final": final, "error": None, "provenance": provenance})
    return folder


def claimed_elsewhere(folder: Path, seconds_ago: float) -> None:
    """What another machine leaves, as far as this one can see."""
    holder = {"machine": "another boot", "host": "node7", "process": 1, "job": None, "since": 0.0}
    (folder / "claim").write_text(json.dumps(holder))
    os.utime(folder / "claim", (time.time() - seconds_ago,) * 2)


def one(results: Path, run: Run, *jobs: QueuedJob) -> Row:
    (row,) = rows(observe([run], results), {run.id: jobs})
    return row


def test_a_run_that_nobody_began_waits_or_is_queued(results: Path, run: Run) -> None:
    assert one(results, run) == Row(run.id, "waiting", 0.0, None, None, None, None, None, None, None, None)
    assert one(results, run, QueuedJob("17_3", 0)).state == "queued"
    store.run_folder(results, run).mkdir(parents=True)
    assert one(results, run).state == "waiting"


def test_a_living_claim_is_a_running_run_with_host_step_rate_and_time_left(results: Path, run: Run) -> None:
    folder = begun(results, run, "running")
    (folder / "progress.json").write_text(json.dumps({"step": 250, "steps": 1000, "rate": 3.0, "text": "epoch 1/4"}))
    claimed_elsewhere(folder, seconds_ago=run_lock.SECONDS_UNTIL_DEAD - 30)
    row = one(results, run)
    assert (row.state, row.host, row.step, row.steps, row.progress) == ("running", "node7", 250, 1000, 0.25)
    assert (row.rate, row.seconds_left) == (3.0, 250.0)
    # Whatever the scheduler has said a while ago.
    assert one(results, run, QueuedJob("17_3", 5)).state == "running"


def test_without_a_sign_of_life_it_is_stalled_or_interrupted(results: Path, run: Run) -> None:
    folder = begun(results, run, "running", **JOB)
    (folder / "progress.json").write_text(json.dumps({"step": 250, "steps": 1000, "rate": 3.0, "text": ""}))
    assert one(results, run).state == "interrupted"
    claimed_elsewhere(folder, seconds_ago=run_lock.SECONDS_UNTIL_DEAD + 30)
    stalled = one(results, run)
    assert (stalled.state, stalled.host, stalled.rate, stalled.seconds_left) == ("stalled", "node7", None, None)
    assert stalled.progress == 0.25
    # Its job runs on; then it was requeued; then another job was submitted.
    assert one(results, run, QueuedJob("17_3", 0)).state == "stalled"
    assert one(results, run, QueuedJob("17_3", 1)).state == "requeued"
    assert one(results, run, QueuedJob("18_0", 0)).state == "queued"
    with run_lock.hold_lock(folder):  # taken over, here
        assert one(results, run).state == "running"
    assert one(results, run).state == "interrupted"


def test_requeues_are_those_of_the_job_that_began_it(results: Path, run: Run) -> None:
    begun(results, run, "running")
    assert one(results, run, QueuedJob("17_3", 1)).requeues is None
    begun(results, run, "running", **JOB)
    assert one(results, run).requeues == 0
    begun(results, run, "running", **JOB, SLURM_RESTART_COUNT="2")
    assert (one(results, run).state, one(results, run).requeues) == ("interrupted", 2)
    # The same count: the job has begun the run and left it, and does not come back by itself.
    assert one(results, run, QueuedJob("17_3", 2)).state == "interrupted"
    row = one(results, run, QueuedJob("17_3", 3))
    assert (row.state, row.requeues) == ("requeued", 3)


def test_failed_stays_failed_while_its_job_does_others_and_is_queued_when_tried_again(results: Path, run: Run) -> None:
    begun(results, run, "failed", **JOB)
    assert one(results, run).state == "failed"
    assert one(results, run, QueuedJob("17_3", 0)).state == "failed"
    assert one(results, run, QueuedJob("18_3", 0)).state == "queued"


def test_done_is_done_whatever_lies_about(results: Path, run: Run) -> None:
    folder = begun(results, run, "completed", final={"top1": 81.25, "train_loss": 0.5, "steps": 12})
    cancellation.mark(folder, run)
    claimed_elsewhere(folder, seconds_ago=0)
    row = one(results, run, QueuedJob("17_3", 0))
    assert (row.state, row.progress, row.step, row.steps) == ("completed", 1.0, 12, 12)
    assert (row.headline, row.host) == (("top1", 81.25), None)
    begun(results, run, "diverged", final={"top1": None, "steps": 7, "train_seconds": 0.1})
    row = one(results, run)
    assert (row.state, row.progress, row.step, row.steps, row.headline) == ("diverged", 1.0, 7, None, None)


def test_a_cancelled_run_is_running_until_it_has_stopped(results: Path, run: Run) -> None:
    cancellation.mark(store.run_folder(results, run), run)
    assert one(results, run).state == "cancelled"
    assert one(results, run, QueuedJob("17_3", 0)).state == "cancelled"
    folder = begun(results, run, "running")
    with run_lock.hold_lock(folder):
        assert one(results, run).state == "running"
    assert one(results, run).state == "cancelled"
    cancellation.lift(folder, run)
    assert one(results, run).state == "interrupted"


def test_the_headline_is_the_accuracy_or_the_first_number_of_the_task(results: Path, run: Run) -> None:
    folder = begun(results, run, "running")
    newest = {"epoch": 2, "step": 500, "train_loss": 1.0, "test_top1": 75.5}
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "test_top1": 3.0}\n' + json.dumps(newest) + "\n")
    row = one(results, run)
    assert (row.metrics, row.headline) == (newest, ("top1", 75.5))
    begun(results, run, "completed", final={"folding_error": None, "batch_dependence": 0.5, "gap": 1.0})
    assert one(results, run).headline == ("batch_dependence", 0.5)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"step": 1}', '{"step": "1", "steps": 2, "rate": 1, "text": ""}', "\xff"]
)
def test_a_damaged_progress_file_counts_for_nothing(results: Path, run: Run, text: str) -> None:
    folder = begun(results, run, "running")
    (folder / "progress.json").write_text(text, encoding="latin-1")
    row = one(results, run)
    assert (row.state, row.progress, row.step) == ("interrupted", 0.0, None)


def test_a_named_pipe_in_place_of_progress_is_not_waited_for(results: Path, run: Run) -> None:
    folder = begun(results, run, "running")
    os.mkfifo(folder / "progress.json")
    assert one(results, run).step is None
    progress.Writer(folder).note(1, 2, "a")  # replaces it
    assert progress.read(folder) == progress.StoredProgress(1, 2, None, "a")


def test_progress_is_written_now_and_then_and_never_stops_a_run(tmp_path: Path, monkeypatch: Any) -> None:
    writer = progress.Writer(tmp_path)
    clock = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock)
    writer.note(40, 100, "a")
    assert progress.read(tmp_path) == progress.StoredProgress(40, 100, None, "a")
    clock += progress.SECONDS_BETWEEN_WRITES / 2
    writer.note(41, 100, "b")
    assert progress.read(tmp_path) == progress.StoredProgress(40, 100, None, "a")
    clock = 104.0
    writer.note(50, 100, "c")  # 10 steps in 4 seconds, from where this execution began
    assert progress.read(tmp_path) == progress.StoredProgress(50, 100, 2.5, "c")
    progress.Writer(tmp_path / "gone").note(1, 2, "d")
    progress.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_thousand_runs(experiments: Path, results: Path) -> None:
    (experiments / "tiny.yaml").write_text(TINY.replace("[0, 1]", str(list(range(500)))))
    runs = expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)
    for run in runs[:20]:
        begun(results, run, "completed", final={"top1": 1.0})
    queue = {run.id: [QueuedJob("17_3", 0)] for run in runs[10:900]}
    states = [row.state for row in rows(observe(runs, results), queue)]
    assert states == ["completed"] * 20 + ["queued"] * 880 + ["waiting"] * 100


def table_rows() -> list[Row]:
    def row(name: str, state: Any, **known: Any) -> Row:
        defaults: dict[str, Any] = dict.fromkeys(Row._fields)
        return Row(**{**defaults, "id": name, "state": state, "varied": "", "progress": 0.0, **known})

    names = [
        f"nf_resnet50-alpha{alpha}-cifar10-batch256-seed{seed}-{number:012x}"
        for number, (alpha, seed) in enumerate([("0.05", 0), ("0.05", 1), ("0.2", 0), ("0.2", 1), ("1", 0), ("1", 1)])
    ]
    top1 = ("top1", 81.254)
    return [
        row(names[0], "completed", step=39000, steps=39000, headline=top1),
        row(names[1], "running", host="node12", step=340, steps=39000, rate=12.34, seconds_left=3134.0, requeues=0),
        row(names[2], "requeued", step=20000, steps=39000, headline=top1, requeues=2),
        row(names[3], "diverged", step=17),
        row(names[4], "interrupted", metrics={"epoch": 3}, headline=("res_var_min", 0.98251)),
        row(names[5], "waiting"),
    ]


def test_the_table_at_several_widths() -> None:
    shown = (
        "\n".join(f"width {width}\n" + "\n".join(table(table_rows(), width)) for width in (None, 140, 80, 40)) + "\n"
    )
    if not GOLDEN.exists():  # delete it to write it anew, then read the difference
        GOLDEN.write_text(shown)
    assert shown == GOLDEN.read_text()


def test_no_line_of_the_table_is_wider_than_the_terminal() -> None:
    for width in range(1, 160):
        lines = table(table_rows(), width)
        assert len(lines) == 7
        assert all(len(line) <= width for line in lines)


def test_the_hash_that_names_a_run_is_shown_as_long_as_there_is_room() -> None:
    found = table_rows()
    for width in range(70, 160):
        lines = table(found, width)[1:]
        assert all(row.id.rpartition("-")[2] in line for row, line in zip(found, lines, strict=True))
