"""What would be submitted to SLURM, on a machine that has none."""

import contextlib
import json
import pickle
import shlex
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest
from tiny_experiment import Call

from nfrepro.errors import InputError
from nfrepro.launch import submission as kept
from nfrepro.launch.cluster import Cluster
from nfrepro.launch.slurm import sbatch_texts, submitting
from nfrepro.launch.slurm_job import RunsOfAJob
from nfrepro.launch.submission import divide
from nfrepro.runs.provenance import REVISION
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

GOLDEN = Path(__file__).parent / "sbatch.txt"
PROFILE = """\
partition: gpu
account: theory
qos: long
gpus_per_run: 1
cpus_per_run: 8
mem_gb: 31.5
timeout_min: 600
seconds_to_save: 300
array_parallelism: 16
max_array_size: 3
max_requeues: 5
setup: [module load cuda]
"""


@pytest.fixture
def runs(experiments: Path) -> list[Run]:
    return expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)


def test_the_sbatch_text(nfrepro: Call, experiments: Path, results: Path) -> None:
    (experiments / "gpus.yaml").write_text(PROFILE)
    call = ("sweep", "tiny", "--scale", "smoke", "--executor", "slurm", "--dry-run")
    shown = nfrepro(*call, "--cluster", str(experiments / "gpus.yaml"))
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == "4 runs: 4 to submit\n"
    assert not results.exists()
    text = shown.stdout.replace(sys.executable, "PYTHON").replace(str(results), "RESULTS")
    text = text.replace(sha256(str(results).encode()).hexdigest()[:6], "WHERE")
    if not GOLDEN.exists():  # delete it to write it anew, then read the difference
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_runs_are_packed_into_jobs_and_jobs_into_arrays(runs: list[Run], results: Path) -> None:
    cluster = Cluster(timeout_min=60, runs_per_job=3, max_array_size=1)
    submission = divide(runs, results, cluster, 60.0)
    ids = tuple(run.id for run in runs)
    assert [array.jobs for array in submission.arrays] == [(ids[:3],), (ids[3:],)]
    assert len({array.name for array in submission.arrays}) == 2
    assert len(sbatch_texts(submission)) == 2
    assert all("--array" not in text for text in sbatch_texts(submission))


def test_a_kept_submission_reads_back_and_holds_the_code(runs: list[Run], results: Path) -> None:
    submission = divide(runs, results, Cluster(timeout_min=60), 60.0)
    kept.keep(submission)
    assert kept.read(submission.folder) == submission
    assert kept.earlier(results, runs[0]) == [submission]
    assert (submission.code / "nfrepro" / "launch" / "execute.py").is_file()
    assert "sha" in (json.loads((submission.code / REVISION).read_text()) or {"sha": None})
    assert divide(runs, results, submission.cluster, 60.0).folder.name == "0002"


def test_changes_of_the_code_are_kept_byte_by_byte(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    (tmp_path / "code.py").write_bytes(b"# M\xfcller\n")
    for command in (["init", "-q"], ["add", "code.py"], ["commit", "-qm", "m"]):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "code.py").write_bytes(b"# M\xfcller, changed\n")
    assert b"+# M\xfcller, changed\n" in kept._git_diff(tmp_path)


def test_other_folders_are_no_submissions(runs: list[Run], results: Path) -> None:
    first = divide(runs, results, Cluster(timeout_min=60), 60.0)
    kept.keep(first)
    first.folder.rename(first.folder.with_name("0001.old"))
    assert divide(runs, results, Cluster(timeout_min=60), 60.0).folder == first.folder
    assert kept.earlier(results, runs[0]) == []


def test_the_pickle_holds_ids_and_a_place_only(runs: list[Run], results: Path) -> None:
    content = pickle.dumps(RunsOfAJob(str(results), (runs[0].id,)))
    assert len(content) < 400
    assert pickle.loads(content) == RunsOfAJob(str(results), (runs[0].id,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--executor", "slurm", "--cluster", "nowhere"], "--cluster nowhere: no such profile"),
        (["--executor", "slurm", "--dry-run", "--cluster", "{profile}", "--jobs", "2"], "not for slurm"),
        (["--dry-run"], "--dry-run shows what --executor slurm would submit"),
        (["--executor", "slurm", "--cluster", "{profile}"], "no SLURM here: sbatch is not found"),
    ],
)
def test_bad_calls(
    nfrepro: Call,
    experiments: Path,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    (experiments / "mine.yaml").write_text("timeout_min: 60\n")
    monkeypatch.setenv("PATH", "/nowhere")
    filled = [argument.format(profile=experiments / "mine.yaml") for argument in arguments]
    refused = nfrepro("sweep", "tiny", "--scale", "smoke", *filled)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not results.exists()


@pytest.mark.parametrize("name", ["100%j", "back\\slash", "two:parts", "two\nlines"])
def test_a_path_that_slurm_would_read_differently_is_refused_before_anything_is_written(
    runs: list[Run], tmp_path: Path, name: str
) -> None:
    results = tmp_path / name
    for act in (lambda: divide(runs, results, Cluster(timeout_min=60), 60.0), lambda: submitting(results, runs[0])):
        with (
            pytest.raises(InputError, match="SLURM cannot use a path with") as refused,
            contextlib.ExitStack() as stack,
        ):
            stack.enter_context(cast(Any, act()))
        assert "\n" not in str(refused.value)
    assert not results.exists()


def test_a_path_with_spaces_and_quotes_reaches_slurm_as_one_word(runs: list[Run], tmp_path: Path) -> None:
    results = tmp_path / "my 'best' results"
    (text,) = sbatch_texts(divide(runs, results, Cluster(timeout_min=60, runs_per_job=4), 60.0))
    written = [line for line in text.splitlines() if str(tmp_path) in line]
    assert len(written) == 3
    for line in written:
        words = shlex.split(line.removeprefix("#SBATCH "))
        assert any(str(results) in word for word in words), line
