"""Cluster profiles: what a job requests from the scheduler. YAML, in `experiments/clusters/` or at any path."""

import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from nfrepro.errors import InputError, did_you_mean
from nfrepro.options import Options
from nfrepro.specs.origins import KeyPath, Origin, display_path, problem
from nfrepro.specs.reader import plain, read_file
from nfrepro.specs.validation import config_keys, explain

FOLDER = "clusters"


def _one_line(text: str) -> str:
    """Returns `text`, to be part of a line in an sbatch file. Raises `ValueError` if it has control characters."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Zl", "Zp") and character != "\t":
            raise ValueError(f"has the control character {character!r}: give one line of plain text")
    return text


Line = Annotated[str, Field(min_length=1), AfterValidator(_one_line)]


class Cluster(Options):
    """A cluster profile. Nothing in it may change a run's result, except for rounding."""

    partition: Line | None = None
    account: Line | None = None
    qos: Line | None = None
    constraint: Line | None = None

    cpus_per_run: int = Field(default=1, ge=1)  # divided among its processes; one thread per CPU
    gpus_per_run: int = Field(default=0, ge=0)  # more than 1: one process per GPU
    processes_per_run: int = Field(default=1, ge=1)  # default: the number of GPUs, at least 1
    nodes_per_run: int = Field(default=1, ge=1)
    mem_gb: float | None = Field(default=None, gt=0)  # of a job, on each of its nodes
    # Where runs execute: by default the GPU, if the profile asks for one.
    device: Literal["cpu", "cuda"] | None = None

    # No default: any would kill good runs somewhere.
    timeout_min: int = Field(ge=1)
    # Seconds before the limit at which the scheduler asks a job to save and go back to the queue.
    seconds_to_save: int = Field(default=120, ge=1)
    max_requeues: int = Field(default=20, ge=0)

    # Runs of a job that share its GPU, or its CPUs if it has none, at the same time; each in a separate process.
    runs_per_gpu: int = Field(default=1, ge=1)
    runs_per_job: int = Field(default=1, ge=1)  # in total; default: runs_per_gpu. Further runs wait for their turn
    array_parallelism: int = Field(default=256, ge=1)  # jobs of a submission that run at once
    # The cluster's MaxArraySize (`scontrol show config`): larger sweeps become several arrays.
    max_array_size: int = Field(default=1001, ge=1)
    setup: list[Line] = Field(default_factory=list)  # shell lines before the job starts, e.g. `module load …`

    @model_validator(mode="before")
    @classmethod
    def _follow(cls, given: Any) -> Any:
        """Fills in defaults that follow from other keys, which are validated later."""
        if not isinstance(given, dict):
            return given
        follows = {"processes_per_run": given.get("gpus_per_run"), "runs_per_job": given.get("runs_per_gpu")}
        return {key: value for key, value in follows.items() if type(value) is int and value > 0} | given

    @model_validator(mode="after")
    def _leaves_time_to_run(self) -> "Cluster":
        if self.seconds_to_save * 2 > self.timeout_min * 60:
            raise ValueError(
                f"seconds_to_save: {self.seconds_to_save} is more than half of the limit of {self.timeout_min} min"
            )
        return self

    @model_validator(mode="after")
    def _divides(self) -> "Cluster":
        processes, nodes = self.processes_per_run, self.nodes_per_run
        if self.runs_on == "cuda" and processes != max(1, self.gpus_per_run):
            raise ValueError(f"processes_per_run: {processes}, but one process a GPU is {max(1, self.gpus_per_run)}")
        if processes % nodes or self.gpus_per_run % nodes:
            raise ValueError(
                f"nodes_per_run: {processes} processes and {self.gpus_per_run} GPUs do not divide evenly "
                f"among {nodes} nodes"
            )
        if self.cpus_per_run % processes:
            raise ValueError(f"cpus_per_run: {self.cpus_per_run} is not a multiple of the {processes} processes")
        return self

    @model_validator(mode="after")
    def _packs(self) -> "Cluster":
        if self.runs_per_gpu > 1 and (self.processes_per_run > 1 or self.gpus_per_run > 1):
            raise ValueError(f"runs_per_gpu: {self.runs_per_gpu} runs share a GPU, so none of them can use several")
        if self.runs_per_job < self.runs_per_gpu:
            raise ValueError(f"runs_per_job: {self.runs_per_job} is less than runs_per_gpu, {self.runs_per_gpu}")
        return self

    @property
    def runs_on(self) -> str:
        """torch's name of the device."""
        return self.device or ("cuda" if self.gpus_per_run else "cpu")

    @property
    def cpus_per_process(self) -> int:
        """Threads of a process."""
        return self.cpus_per_run // self.processes_per_run

    @property
    def tasks_per_node(self) -> int:
        """Tasks of the scheduler on each node: the processes of a run there; runs that share a GPU share a task."""
        return self.processes_per_run // self.nodes_per_run

    @property
    def cpus_per_task(self) -> int:
        return self.cpus_per_process * self.runs_per_gpu

    @property
    def gpus_per_node(self) -> int:
        return self.gpus_per_run // self.nodes_per_run


def load_cluster(name_or_path: str, experiments: Path) -> Cluster:
    """The profile of that name, or at that path if it ends in .yaml. Raises `InputError` with file and line."""
    path = Path(name_or_path) if name_or_path.endswith(".yaml") else _named(name_or_path, experiments / FOLDER)
    node = read_file(path)
    if not isinstance(node.value, dict):
        raise problem(node.origin, "expected a mapping of keys to values")
    origins: dict[KeyPath, Origin] = {(): Origin(display_path(path))}
    origins |= {(key,): child.origin for key, child in node.value.items()}
    try:
        return Cluster.model_validate(plain(node))
    except ValidationError as error:
        raise explain(error, plain(node), origins, config_keys(Cluster)) from None


def _named(name: str, folder: Path) -> Path:
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        known = f"in {display_path(folder)} there is: {', '.join(names)}" if names else f"{folder} has none"
        raise InputError(f"--cluster {name}: no such profile{did_you_mean(name, names)}; {known}; or name a .yaml file")
    return folder / f"{name}.yaml"
