"""Record of a submission to a scheduler: which job has which runs, and a snapshot of their code.

results/.slurm/<experiment>/<scale>/<number>/
    submission.json     runs, jobs, cluster profile
    code/nfrepro/       the code as submitted: edits made while jobs wait change nothing
    code/nfrepro-revision.json, code.diff      git revision of the code, uncommitted changes
    jobs/               files of submitit: sbatch files, pickles, logs
"""

import json
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import nfrepro
from nfrepro import atomic
from nfrepro.errors import InputError
from nfrepro.launch.cluster import Cluster
from nfrepro.runs.provenance import REVISION, git_revision
from nfrepro.specs import Run

FOLDER = ".slurm"
RECORD = "submission.json"
Item = TypeVar("Item")


@dataclass(frozen=True)
class Array:
    """One job array: the runs of each of its jobs."""

    name: str  # unique in the scheduler
    jobs: tuple[tuple[str, ...], ...]
    job_id: str | None = None  # None: not accepted, or not known to be


@dataclass(frozen=True)
class Submission:
    """A sweep's runs, divided among jobs."""

    folder: Path
    results: Path
    cluster: Cluster
    checkpoint_seconds: float
    runs: tuple[Run, ...]
    arrays: tuple[Array, ...]

    @property
    def code(self) -> Path:
        return self.folder / "code"

    @property
    def jobs(self) -> Path:
        return self.folder / "jobs"


def divide(runs: Sequence[Run], results: Path, cluster: Cluster, checkpoint_seconds: float) -> Submission:
    """Divides `runs`, all of one experiment at one scale, among jobs; writes nothing. Raises like `check_path`."""
    check_path(results)
    results = results.resolve()
    place = sweep_folder(results, runs[0])
    number = 1 + max((int(path.name) for path in _folders(place, "")), default=0)
    # Different results folders must not share names in the scheduler.
    name = f"{runs[0].experiment}-{runs[0].scale}-{number:04}-{sha256(str(results).encode()).hexdigest()[:6]}"
    jobs = _parts([run.id for run in runs], cluster.runs_per_job)
    arrays = tuple(
        Array(f"{name}-{index}", tuple(part)) for index, part in enumerate(_parts(jobs, cluster.max_array_size))
    )
    return Submission(place / f"{number:04}", results, cluster, checkpoint_seconds, tuple(runs), arrays)


def sweep_folder(results: Path, run: Run) -> Path:
    """The folder with the submissions of the sweep that `run` belongs to."""
    return results / FOLDER / run.experiment / run.scale


def check_path(results: Path) -> None:
    """Raises `InputError` if SLURM, or a job's shell, would misread the path of `results`.

    SLURM replaces `%j` and the like in names of logs, and a backslash turns that off; PYTHONPATH is split at colons.
    """
    path = str(results.resolve())
    found = next((sign for sign in path if sign in "%\\:" or ord(sign) < ord(" ")), None)
    if found is not None:
        raise InputError(f"{path!r}: SLURM cannot use a path with {found!r}: choose another folder with --results")


def keep(submission: Submission) -> None:
    """Creates the submission's folder, with its record and the snapshot of the code."""
    try:
        submission.folder.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{submission.folder}: another submission was made at the same time: try again") from None
    submission.jobs.mkdir()
    package = Path(nfrepro.__file__).parent
    shutil.copytree(package, submission.code / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    atomic.write_text(submission.code / REVISION, json.dumps(git_revision(package)) + "\n")
    atomic.write_bytes(submission.folder / "code.diff", _git_diff(package))
    write(submission)


def write(submission: Submission) -> None:
    """Writes the record."""
    record = {
        "results": str(submission.results),
        "cluster": submission.cluster.model_dump(),
        "checkpoint_seconds": submission.checkpoint_seconds,
        "runs": [asdict(run) for run in submission.runs],
        "arrays": [asdict(array) for array in submission.arrays],
    }
    atomic.write_text(submission.folder / RECORD, json.dumps(record, indent=1) + "\n")


def read(folder: Path) -> Submission:
    """The submission stored in `folder`. Raises `InputError` if its record is damaged."""
    path = folder / RECORD
    try:
        record = json.loads(atomic.read_text(path))
        arrays = [replace(Array(**array), jobs=tuple(map(tuple, array["jobs"]))) for array in record["arrays"]]
        return Submission(
            folder,
            Path(record["results"]),
            Cluster.model_validate(record["cluster"]),
            record["checkpoint_seconds"],
            tuple(Run(**run) for run in record["runs"]),
            tuple(arrays),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a valid record of a submission: {error}") from None


def earlier(results: Path, run: Run) -> list[Submission]:
    """All submissions of the sweep that `run` belongs to; skips a folder whose record was never written."""
    folders = _folders(sweep_folder(results.resolve(), run), "")
    return [read(folder) for folder in folders if (folder / RECORD).exists()]


def holding(results: Path, ids: Collection[str]) -> list[Submission]:
    """The submissions of any sweep that contain a run with one of these `ids`."""
    folders = _folders(results.resolve() / FOLDER, "*/*/")
    found = [read(folder) for folder in folders if (folder / RECORD).exists()]
    return [submission for submission in found if any(run.id in ids for run in submission.runs)]


def _folders(place: Path, below: str) -> list[Path]:
    """The folders of submissions, which are numbers, in order."""
    return sorted(path for path in place.glob(f"{below}[0-9]*") if path.name.isdecimal())


def _parts(items: Sequence[Item], size: int) -> list[tuple[Item, ...]]:
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]


def _git_diff(folder: Path) -> bytes:
    """The difference between the checkout and its last commit; empty outside a checkout."""
    command = ["git", "-C", str(folder), "diff", "HEAD", "--binary", "--", ":/", ":(exclude,top)results"]
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return b""
