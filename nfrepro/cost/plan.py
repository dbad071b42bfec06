"""Plan of a sweep: how many runs are left, and what they will cost. Starts and writes nothing."""

import heapq
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from nfrepro.cost import estimates, measurements
from nfrepro.cost.machine import Machine
from nfrepro.cost.shapes import Shape, find_shapes
from nfrepro.cost.stored import StoredTime, stored_rate, stored_time
from nfrepro.data.options import DataOptions
from nfrepro.data.sizes import ImageSizes, image_sizes
from nfrepro.errors import InputError
from nfrepro.launch.cluster import Cluster
from nfrepro.launch.remaining import Remaining
from nfrepro.launch.submission import divide
from nfrepro.runs.stored_results import trained_by_others
from nfrepro.specs import Run
from nfrepro.tasks.options import TrainTask
from nfrepro.tasks.work import Work, count_work

# Checkpoints of a run on disk while the next one is written.
CHECKPOINTS = 3
# Runs with shorter steps leave a GPU idle in between; up to four at once were found to be faster (docs/gpu.md).
SHORT_STEP_SECONDS = 0.03
MOST_RUNS_ON_A_GPU = 4
# GPU memory that CUDA itself takes in every process, and the share of all memory that runs may fill.
CONTEXT_BYTES, FILLED_SHARE = 600_000_000, 0.9


@dataclass(frozen=True)
class ShapeCost:
    """The cost of one shape."""

    label: str
    runs: int
    left: int
    batch_size: int
    precision: str
    parameters: int
    multiply_adds: int  # of one training image forward
    test_multiply_adds: int  # of one test image forward
    steps: tuple[int, int]  # the fewest and the most of a run
    peak_bytes: int
    peak_from: str  # measured, …, or estimate
    images_per_second: float
    rate_from: str
    loader_images_per_second: float | None  # measured
    hours_per_run: float  # from start to end; mean over its runs
    hours_left: float  # of all its remaining runs, one after the other
    checkpoint_bytes: int
    runs_on_a_gpu: int = 1  # how many at once are faster and fit; measured


@dataclass(frozen=True)
class Jobs:
    """The request to a cluster."""

    jobs: int
    hours: float  # of GPUs, or of processor cores, if every job runs to its limit
    device: estimates.DeviceType
    longest_job_hours: float  # expected
    timeout_hours: float


@dataclass(frozen=True)
class CostPlan:
    """Everything that `plan` reports."""

    experiment: str
    scale: str
    task: str
    runs: int
    done: int
    done_by: dict[str, int]  # other experiments that trained some of them
    failed: int
    left: int
    machine: Machine
    shapes: tuple[ShapeCost, ...]
    stored: StoredTime | None
    hours_left: float | None  # one after the other; None: unknown
    wall_hours_left: float | None  # as many at once as the machine takes
    device_hours_left: float | None  # of GPUs, or of processor cores
    checkpoint_bytes_at_once: int
    result_bytes: int  # of the runs left
    jobs: Jobs | None
    listings: tuple[str, ...] = ()  # of folders of images: which files are used and left out


def plan_cost(
    plan: Remaining,
    runs: Sequence[Run],
    results: Path,
    machine: Machine,
    cluster: Cluster | None,
    tflops: float | None,
    advance: Callable[[int], None],
) -> CostPlan:
    """The cost of `plan`, whose runs are `runs`, all of one task. Calls `advance` for each shape.

    `tflops`: the assumed rate of a device, in 10^12 operations per second; None: a typical one. Raises `InputError`
    for stored results that are damaged, and if the size of the images cannot be determined.
    """
    shapes: list[ShapeCost] = []
    hours: dict[str, float] = {}
    for shape in find_shapes(runs) if runs[0].task == "train" else []:
        shapes.append(_shape_cost(shape, plan, results, machine, tflops, hours))
        advance(1)
    stored = stored_time(plan.done, results) if not shapes else None
    if stored is not None:
        hours = {run.id: stored.seconds_per_run / 3600 for run in plan.execute}
    known = all(run.id in hours for run in plan.execute)
    each = [hours[run.id] for run in plan.execute] if known else None
    left = None if each is None else sum(each)
    return CostPlan(
        experiment=runs[0].experiment,
        scale=runs[0].scale,
        task=runs[0].task,
        runs=len(runs),
        done=len(plan.done),
        done_by=trained_by_others(results, plan.done),
        failed=len(plan.failed),
        left=len(plan.execute),
        machine=machine,
        shapes=tuple(shapes),
        stored=stored,
        hours_left=left,
        wall_hours_left=None if each is None else side_by_side(each, machine.at_once),
        device_hours_left=None if left is None else left * machine.devices_per_run,
        checkpoint_bytes_at_once=_checkpoints_at_once(shapes, machine),
        result_bytes=sum(estimates.result_bytes(run.config) for run in plan.execute) if shapes else 0,
        jobs=_jobs(plan.execute, results, cluster, hours if known else {}),
        listings=_listings(shapes, runs),
    )


def run_hours(runs: Sequence[Run], results: Path, machine: Machine) -> dict[str, float]:
    """Hours from the start of each run to its end, as far as known.

    Training runs as in `plan_cost`; other runs take as long as stored runs of the same experiment on average.
    """
    hours: dict[str, float] = {}
    by_experiment: dict[str, list[Run]] = {}
    for run in runs:
        by_experiment.setdefault(run.experiment, []).append(run)
    for of in by_experiment.values():
        if of[0].task == "train":
            for shape in find_shapes(of):
                _shape_cost(shape, Remaining((), (), ()), results, machine, None, hours)
        elif (stored := stored_time(of, results)) is not None:
            hours |= {run.id: stored.seconds_per_run / 3600 for run in of}
    return hours


def _shape_cost(
    shape: Shape, plan: Remaining, results: Path, machine: Machine, tflops: float | None, hours: dict[str, float]
) -> ShapeCost:
    """The cost of `shape`; adds the hours of each of its runs to `hours`."""
    measured = measurements.find(results, shape.key, machine.type, machine.name, machine.threads_per_process)
    config = shape.runs[0].config
    train, ema = config["train"], config["train"]["ema_decay"] is not None
    if train["batch_size"] % machine.processes:
        raise InputError(
            f"{shape.label}: train.batch_size: {train['batch_size']} is not a multiple of the {machine.processes} "
            "processes of a run"
        )
    work = measured.work if measured and measured.work else count_work(TrainTask.model_validate(config))
    rate, rate_from = _rate(shape, measured, work, results, machine, tflops)
    rows = estimates.rows_at_once(config, machine.processes)
    peak, peak_from = estimates.peak_bytes(work, rows, train["precision"], ema), "estimate"
    if measured and measured.peak_bytes is not None and machine.processes == 1:
        peak, peak_from = measured.peak_bytes, measured.how
    schedules = [_schedule(run) for run in shape.runs]
    hours |= {
        run.id: estimates.run_hours(schedule, work, rate) for run, schedule in zip(shape.runs, schedules, strict=True)
    }
    to_execute = {run.id for run in plan.execute}
    left = [run for run in shape.runs if run.id in to_execute]
    return ShapeCost(
        label=shape.label,
        runs=len(shape.runs),
        left=len(left),
        batch_size=train["batch_size"],
        precision=train["precision"],
        parameters=work.parameters,
        multiply_adds=work.multiply_adds,
        test_multiply_adds=work.test_multiply_adds,
        steps=(min(schedule.steps for schedule in schedules), max(schedule.steps for schedule in schedules)),
        peak_bytes=peak,
        peak_from=peak_from,
        images_per_second=rate,
        rate_from=rate_from,
        loader_images_per_second=measured.loader_rate if measured else None,
        hours_per_run=statistics.mean(hours[run.id] for run in shape.runs),
        hours_left=sum(hours[run.id] for run in left),
        checkpoint_bytes=estimates.checkpoint_bytes(work, ema),
        runs_on_a_gpu=runs_on_a_gpu(measured, train["batch_size"] / rate) if machine.type == "cuda" else 1,
    )


def side_by_side(hours: Sequence[float], slots: int) -> float:
    """The hours until all runs have ended if `slots` execute at once, each begun in order as soon as one is free."""
    ends = [0.0] * min(slots, len(hours))
    for own in hours:
        heapq.heapreplace(ends, ends[0] + own)
    return max(ends, default=0.0)


def runs_on_a_gpu(measured: measurements.Measurement | None, step_seconds: float) -> int:
    """The number of runs of a shape that should share a GPU, according to its dry run; 1 if there was none."""
    if measured is None or measured.peak_bytes is None or measured.total_bytes is None:
        return 1
    if step_seconds >= SHORT_STEP_SECONDS:
        return 1
    fitting = int(FILLED_SHARE * measured.total_bytes / (measured.peak_bytes + CONTEXT_BYTES))
    return max(1, min(MOST_RUNS_ON_A_GPU, fitting))


def _rate(
    shape: Shape,
    measured: measurements.Measurement | None,
    work: Work,
    results: Path,
    machine: Machine,
    tflops: float | None,
) -> tuple[float, str]:
    """Images per second, and the origin of that number: a dry run, then stored runs, then assumptions."""
    times = "" if machine.processes == 1 else f", times {machine.processes}"
    if measured and measured.rate is not None:
        device = "" if machine.name else f" on {measured.device.name}"
        but = f", but {measured.text}" if measured.text else ""
        return machine.processes * measured.rate, f"{measured.how}{device}{times}{but}"
    if (stored := stored_rate(shape.runs, results, machine)) is not None:
        return stored.images_per_second, f"{stored.runs} stored run{'' if stored.runs == 1 else 's'}"
    config = shape.runs[0].config
    rows = estimates.rows_at_once(config, machine.processes)
    threads = machine.threads_per_process
    assumed = tflops or estimates.assumed_tflops(machine.type, config["train"]["precision"], threads)
    rate = machine.processes * estimates.estimated_images_per_second(work, rows, assumed)
    what = f"{assumed:g} TFLOP/s"
    if estimates.limited_by_launches(work, rows, assumed):
        what = f"{1000 * estimates.ASSUMED_LAYER_SECONDS:g} ms a layer"
    why = f" (dry run: {measured.status})" if measured else ""
    return rate, f"not measured{why}: assumes {what}{times}"


def _schedule(run: Run) -> estimates.Schedule:
    task = TrainTask.model_validate(run.config)
    sizes = _sizes(task.data)
    return estimates.Schedule.of(run.config, sizes.train_images, sizes.test_images)


def _listings(shapes: Sequence[ShapeCost], runs: Sequence[Run]) -> tuple[str, ...]:
    """A line for each folder of images that the runs read."""
    if not shapes:
        return ()
    folders = {str(run.config["data"].get("folder")): run for run in runs}
    found = (_sizes(TrainTask.model_validate(run.config).data).listing for run in folders.values())
    return tuple(line for line in found if line is not None)


@lru_cache(maxsize=64)  # an image folder is listed once for all runs
def _sizes(options: DataOptions) -> ImageSizes:
    return image_sizes(options)


def _checkpoints_at_once(shapes: Sequence[ShapeCost], machine: Machine) -> int:
    """Bytes of the checkpoints of the runs that execute at once, if these are the largest."""
    sizes = sorted((shape.checkpoint_bytes for shape in shapes for _ in range(shape.left)), reverse=True)
    return CHECKPOINTS * sum(sizes[: machine.at_once])


def _jobs(left: Sequence[Run], results: Path, cluster: Cluster | None, hours: dict[str, float]) -> Jobs | None:
    if cluster is None or not left:
        return None
    jobs = [job for array in divide(left, results, cluster, 0.0).arrays for job in array.jobs]
    timeout = cluster.timeout_min / 60
    return Jobs(
        jobs=len(jobs),
        hours=len(jobs) * timeout * (cluster.gpus_per_run or cluster.cpus_per_run * cluster.runs_per_gpu),
        device="cuda" if cluster.gpus_per_run else "cpu",
        timeout_hours=timeout,
        longest_job_hours=max(side_by_side([hours.get(run, 0.0) for run in job], cluster.runs_per_gpu) for job in jobs),
    )
