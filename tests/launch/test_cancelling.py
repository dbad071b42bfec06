"""What is asked of SLURM to watch and to cancel, with commands of SLURM that only write down what they are asked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_experiment import TINY, Call

from nfrepro.launch import slurm as slurm_queue
from nfrepro.launch import submission as kept
from nfrepro.launch.cluster import Cluster
from nfrepro.launch.submission import divide
from nfrepro.runs import cancellation, store
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

HERE = ("tiny", "--scale", "smoke")
COMMAND = """\
#!/bin/sh
echo "$(basename "$0") $*" >> {folder}/asked
cat {folder}/answer
[ ! -e {folder}/complaint ] || {{ cat {folder}/complaint >&2; exit 1; }}
"""


def job(name: str, number: int, index: int, state: str, reason: str = "None") -> str:
    """A line of squeue's."""
    return f"{name}|{number}|{index}|{state}|0|{reason}"


class Pretended:
    """SLURM as far as `squeue` and `scancel` are concerned."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("squeue", "scancel"):
            (folder / name).write_text(COMMAND.format(folder=folder))
            (folder / name).chmod(0o755)
        self.says()

    def says(self, *jobs: str, complaint: str | None = None) -> None:
        (self.folder / "answer").write_text("".join(f"{job}\n" for job in jobs))
        (self.folder / "complaint").unlink(missing_ok=True)
        if complaint:
            (self.folder / "complaint").write_text(complaint)

    def was_asked(self) -> list[str]:
        """Since it was asked that last."""
        path = self.folder / "asked"
        asked = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return asked


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pretended:
    pretended = Pretended(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return pretended


@pytest.fixture
def runs(experiments: Path) -> list[Run]:
    return expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)


@pytest.fixture
def submitted(runs: list[Run], results: Path) -> Callable[[int], str]:
    """Keeps a submission of so many runs a job as array 17; returns the name of the array."""

    def keep(runs_per_job: int) -> str:
        submission = divide(runs, results, Cluster(timeout_min=60, runs_per_job=runs_per_job), 60.0)
        submission.jobs.mkdir(parents=True)
        (array,) = submission.arrays
        accepted = kept.Array(array.name, array.jobs, "17")
        kept.write(kept.Submission(**{**vars(submission), "arrays": (accepted,)}))
        return array.name

    return keep


def states(nfrepro: Call) -> list[str]:
    return [row["state"] for row in json.loads(nfrepro("status", *HERE, "--json").stdout)]


def test_slurm_is_asked_only_for_what_may_be_queued(
    slurm: Pretended, nfrepro: Call, submitted: Any, runs: list[Run], results: Path
) -> None:
    assert states(nfrepro) == ["waiting"] * 4
    assert slurm.was_asked() == []
    name = submitted(1)
    strangers = [job(name, 16, 1, "PENDING"), job("another", 17, 0, "RUNNING"), job(name, 17, 4, "RUNNING")]
    slurm.says(job(name, 17, 2, "PENDING"), *strangers)
    assert states(nfrepro) == ["waiting", "waiting", "queued", "waiting"]
    (asked,) = slurm.was_asked()
    assert f"--name={name} " in asked
    for run in runs:
        folder = store.run_folder(results, run)
        folder.mkdir(parents=True)
        record = store.description_of(run)
        store.write_record(folder, {**record, "status": "completed", "final": {}, "error": None})
    assert states(nfrepro) == ["completed"] * 4
    assert slurm.was_asked() == []


def test_a_mute_slurm_is_a_note_under_the_table(slurm: Pretended, nfrepro: Call, submitted: Any) -> None:
    submitted(1)
    slurm.says(complaint="slurm_load_jobs error: Unable to contact slurm controller")
    shown = nfrepro("status", *HERE)
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[-1] == "4 runs: 4 waiting"
    assert shown.stderr == (
        "what is queued is not known: SLURM does not answer: "
        "slurm_load_jobs error: Unable to contact slurm controller\n"
    )


def test_jobs_that_nobody_but_a_person_can_let_go_are_named(slurm: Pretended, nfrepro: Call, submitted: Any) -> None:
    name = submitted(1)
    held = [job(name, 17, index, "PENDING", "launch failed requeued held") for index in (0, 2)]
    slurm.says(*held, job(name, 17, 1, "PENDING", "Priority"), job("another", 16, 0, "PENDING", "JobHeldUser"))
    shown = nfrepro("status", *HERE)
    assert shown.stdout.splitlines()[-1] == "4 runs: 3 queued, 1 waiting"
    assert shown.stderr == (
        "SLURM holds 2 of the jobs back (launch failed requeued held) until somebody calls: "
        "scontrol release 17_0,17_2\n"
    )


def test_jobs_are_cancelled_by_number_and_name(
    slurm: Pretended, nfrepro: Call, submitted: Any, runs: list[Run]
) -> None:
    name = submitted(1)
    mine = [job(name, 17, index, state) for index, state in enumerate(["RUNNING", "PENDING", "COMPLETING"])]
    slurm.says(*mine, job(name, 16, 3, "PENDING"), job("another", 17, 3, "RUNNING"))
    one = nfrepro("cancel", "tiny", runs[0].id, "--scale", "smoke")
    assert one.stdout == f"cancelled  {runs[0].id}  will not begin\nSLURM jobs cancelled: 17_0\n"
    assert slurm.was_asked()[1:] == [f"scancel --quiet --name={name} 17_[0]"]
    everything = nfrepro("cancel", *HERE)
    assert everything.returncode == 0
    assert everything.stdout.splitlines()[-1] == "SLURM jobs cancelled: 17_0, 17_1"
    assert slurm.was_asked()[1:] == [f"scancel --quiet --name={name} 17_[0,1]"]
    assert states(nfrepro) == ["cancelled", "cancelled", "cancelled", "waiting"]


def test_a_job_with_other_runs_to_do_goes_on_without_the_cancelled_one(
    slurm: Pretended, nfrepro: Call, submitted: Any, runs: list[Run], results: Path
) -> None:
    name = submitted(2)
    slurm.says(job(name, 17, 0, "PENDING"), job(name, 17, 1, "PENDING"))
    one = nfrepro("cancel", "tiny", runs[0].id, "--scale", "smoke")
    assert one.stdout == f"cancelled  {runs[0].id}  will not begin\n"
    assert all(asked.startswith("squeue") for asked in slurm.was_asked())
    assert states(nfrepro) == ["cancelled", "queued", "queued", "queued"]
    other = nfrepro("cancel", "tiny", runs[1].id, "--scale", "smoke")
    assert other.stdout.splitlines()[-1] == "SLURM jobs cancelled: 17_0"
    assert states(nfrepro) == ["cancelled", "cancelled", "queued", "queued"]
    assert cancellation.is_cancelled(store.run_folder(results, runs[0]), runs[0])


def test_a_job_of_another_experiment_is_seen_but_not_cancelled(
    slurm: Pretended, nfrepro: Call, submitted: Any, runs: list[Run], experiments: Path, results: Path
) -> None:
    name = submitted(1)
    slurm.says(job(name, 17, 0, "PENDING"), job(name, 17, 1, "PENDING"))
    (experiments / "other.yaml").write_text(TINY.replace("seed: [0, 1]", "seed: [0]"))
    other = ("other", "--scale", "smoke")
    rows = json.loads(nfrepro("status", *other, "--json").stdout)
    assert [(row["id"], row["state"]) for row in rows] == [(runs[0].id, "queued"), (runs[2].id, "waiting")]
    assert slurm_queue.queued(results, [runs[0], runs[2]]) == {runs[0].id}
    slurm.was_asked()
    cancelled = nfrepro("cancel", *other)
    assert cancelled.stdout == f"cancelled  {runs[0].id}  here\ngoes on    {runs[0].id}  for tiny at scale smoke\n"
    assert all(asked.startswith("squeue") for asked in slurm.was_asked())
    assert states(nfrepro) == ["queued", "queued", "waiting", "waiting"]
    assert [row["state"] for row in json.loads(nfrepro("status", *other, "--json").stdout)] == ["cancelled", "waiting"]
    both = nfrepro("cancel", *HERE).stdout.splitlines()
    assert both[-1] == "SLURM jobs cancelled: 17_0, 17_1"
    assert not [line for line in both if line.startswith("goes on")]


def test_where_slurm_is_mute_runs_are_kept_from_going_on_all_the_same(
    slurm: Pretended, nfrepro: Call, submitted: Any, runs: list[Run]
) -> None:
    submitted(1)
    slurm.says(complaint="Unable to contact slurm controller")
    called = nfrepro("cancel", *HERE)
    assert called.returncode == 1
    assert called.stdout.count("will not begin") == 4
    assert called.stderr == "no job was cancelled: SLURM does not answer: Unable to contact slurm controller\n"
    assert states(nfrepro) == ["cancelled"] * 4


def test_nothing_to_cancel(slurm: Pretended, nfrepro: Call, submitted: Any, results: Path) -> None:
    assert nfrepro("cancel", *HERE).stdout == "nothing to cancel\n"
    submitted(1)
    called = nfrepro("cancel", *HERE)
    assert (called.returncode, called.stdout, called.stderr) == (0, "nothing to cancel\n", "")
    assert list(results.glob("runs/*")) == []
    unknown = nfrepro("cancel", "tiny", "nothing-like-this", "--scale", "smoke")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("nfrepro: no run nothing-like-this")


def test_logs_are_those_of_all_jobs_of_the_run(nfrepro: Call, submitted: Any, runs: list[Run], results: Path) -> None:
    submitted(2)
    jobs = results / ".slurm" / "tiny" / "smoke" / "0001" / "jobs"
    for name in ("17_0_0", "17_0_1", "17_1_0", "171_0_0"):
        (jobs / f"{name}_log.out").write_text(f"this is {name}\nunfinished")
    told = nfrepro("logs", "tiny", runs[1].id, "--scale", "smoke").stdout.splitlines()
    assert told == [
        f"==> {jobs}/17_0_0_log.out <==",
        "this is 17_0_0",
        f"==> {jobs}/17_0_1_log.out <==",
        "this is 17_0_1",
    ]
