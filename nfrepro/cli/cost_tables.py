"""Output of `plan` and `dry-run`: plain tables."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from nfrepro.cli.screen import table_lines
from nfrepro.cost.measurements import Measurement
from nfrepro.cost.plan import CostPlan, Jobs, ShapeCost
from nfrepro.cost.shapes import Shape

UNITS = {"cpu": "CPU-hours", "cuda": "GPU-hours"}
UNKNOWN = "-"


def plan_lines(plan: CostPlan) -> Iterator[str]:
    """The whole plan, as lines of text."""
    failed = f", {plan.failed} failed (left to --retry)" if plan.failed else ""
    shapes = f"; {count(len(plan.shapes), 'shape')}" if plan.shapes else ""
    runs = count(plan.runs, "run")
    by = f" ({', '.join(f'{name}: {count}' for name, count in plan.done_by.items())})" if plan.done_by else ""
    yield f"{plan.experiment} at scale {plan.scale}: {runs}: {plan.done} done{by}{failed}, {plan.left} left{shapes}"
    machine = plan.machine
    threads = f", {count(machine.threads, 'thread')} a run"
    yield f"on {machine.type}{f' ({machine.name})' if machine.name else ''}{threads}, up to {machine.at_once} at once"
    yield from plan.listings
    if plan.shapes:
        yield from _shape_tables(plan.shapes)
    elif plan.stored is not None:
        yield f"{plan.stored.seconds_per_run:.0f} s a run: the mean of {count(plan.stored.runs, 'stored run')}"
    yield from _totals(plan)


# Two tables, since a terminal has about 100 columns.
SIZE_HEADER = ("shape", "runs", "left", "parameters", "MACs train / test", "steps", "batch", "precision", "memory")
TIME_HEADER = ("shape", "images/s", "loader", "h a run", "h left", "images/s from")
# CPU-hours from which on a plan suggests GPUs.
MANY_CPU_HOURS = 1000


# The longest label with which tables fit into `COLUMNS`; longer ones are listed, and the tables show their numbers.
LONGEST_LABEL, COLUMNS = 18, 100


def _shape_tables(shapes: Sequence[ShapeCost]) -> Iterator[str]:
    """The sizes of the shapes, their times, and the meaning of words in the tables."""
    labels = [shape.label for shape in shapes]
    if max(map(len, labels)) > LONGEST_LABEL:
        yield ""
        for number, label in enumerate(labels, start=1):
            yield from wrap(label, COLUMNS, initial_indent=f"{number:<4}", subsequent_indent="    ")
        labels = [str(number) for number in range(1, len(labels) + 1)]
    yield ""
    yield from table_lines([SIZE_HEADER, *map(_size_row, labels, shapes)], range(1, len(SIZE_HEADER) - 1))
    yield ""
    yield from table_lines([TIME_HEADER, *map(_time_row, labels, shapes)], range(1, len(TIME_HEADER) - 1))
    yield ""
    yield from _legend(shapes)


def _size_row(label: str, shape: ShapeCost) -> tuple[str, ...]:
    fewest, most = shape.steps
    return (
        label,
        f"{shape.runs:,}",
        f"{shape.left:,}",
        _short(shape.parameters),
        f"{_short(shape.multiply_adds)} / {_short(shape.test_multiply_adds)}",
        f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}",
        f"{shape.batch_size:,}",
        shape.precision,
        f"{'~' if shape.peak_from == 'estimate' else ''}{_short(shape.peak_bytes)}B",
    )


def _time_row(label: str, shape: ShapeCost) -> tuple[str, ...]:
    return (
        label,
        _rate(shape.images_per_second),
        _rate(shape.loader_images_per_second),
        _number(shape.hours_per_run),
        _number(shape.hours_left),
        shape.rate_from,
    )


def _legend(shapes: Sequence[ShapeCost]) -> Iterator[str]:
    yield "MACs: multiply-adds of an image, forward; memory: peak of a step"
    if any("assumes" in shape.rate_from for shape in shapes):
        yield "assumes: a step is 3 forward passes, a multiply-add 2 operations; measure with nfrepro dry-run"
    if any(shape.peak_from == "estimate" for shape in shapes):
        yield "~ estimate: weights, gradients, momentum, average, kept activations; no workspace, no data set"
    if any(shape.loader_images_per_second is None for shape in shapes):
        yield f"loader {UNKNOWN}: not measured; it has to deliver the images/s"


def _totals(plan: CostPlan) -> Iterator[str]:
    machine = plan.machine
    if plan.device_hours_left is None or plan.wall_hours_left is None:
        yield "cost: unknown, no run of this experiment is stored yet"
    else:
        at_once = min(machine.at_once, max(1, plan.left))
        wall = f"about {_number(plan.wall_hours_left)} h with {count(at_once, 'run')} at once"
        yield f"left: {_number(plan.device_hours_left)} {UNITS[machine.type]}; {wall}"
        if machine.type == "cpu" and plan.device_hours_left >= MANY_CPU_HOURS:
            yield "that is work for GPUs; how many GPU-hours, with a profile of experiments/clusters or your own:"
            yield f"    nfrepro plan {plan.experiment} --scale {plan.scale} --cluster gpu_partition"
    together = min((shape.runs_on_a_gpu for shape in plan.shapes), default=1)
    if together > 1:
        how = "--jobs, JOBS" if plan.jobs is None else "runs_per_gpu of the profile"
        yield f"short steps leave a GPU idle: {together} runs on each fit, and take less time together ({how})"
    if plan.shapes:
        yield (
            f"disk: results about {_short(plan.result_bytes)}B; "
            f"checkpoints up to {_short(plan.checkpoint_bytes_at_once)}B while runs execute"
        )
    if plan.jobs is not None:
        yield from _job_lines(plan.jobs, plan.hours_left is not None)


def _job_lines(jobs: Jobs, known: bool) -> Iterator[str]:
    ceiling = f"{_number(jobs.hours)} {UNITS[jobs.device]} requested at most, but for requeues"
    yield f"cluster: {count(jobs.jobs, 'job')} of up to {_number(jobs.timeout_hours)} h: {ceiling}"
    times = int(jobs.longest_job_hours // jobs.timeout_hours)
    if known and times:
        needs = f"the longest job needs about {_number(jobs.longest_job_hours)} h"
        yield f"{needs}: it goes back to the queue {count(times, 'time')} or more"


def trial_header(shapes: Sequence[Shape]) -> str:
    """The header of the table of a dry run; the row of a shape follows when it has ended."""
    return _trial_line(("shape", "fits", "loss", "peak memory", "model", "loader", "joint", "how"), shapes)


def trial_row(found: Measurement, shapes: Sequence[Shape]) -> str:
    """The row of one shape; rates are in images per second."""
    fits = {"memory": "no", "slow": "?", "failed": "?"}.get(found.status, "yes")
    loss = {"not finite": "not finite", "measured": "finite"}.get(found.status, UNKNOWN)
    peak = UNKNOWN if found.peak_bytes is None else f"{_short(found.peak_bytes)}B"
    rates = map(_rate, (found.model_rate, found.loader_rate, found.joint_rate))
    how = "; ".join(part for part in (found.text, found.how if found.rows else "") if part)
    return _trial_line((found.label, fits, loss, peak, *rates, how), shapes)


def _trial_line(cells: Sequence[str], shapes: Sequence[Shape]) -> str:
    label, *middle, last = cells
    width = max(len("shape"), *(len(shape.label) for shape in shapes))
    numbers = (f"{cell:>{size}}" for cell, size in zip(middle, (4, 10, 11, 9, 9, 9), strict=True))
    return "  ".join([f"{label:{width}}", *numbers, last])


def count(number: int, thing: str) -> str:
    """A count with its noun: `1 run`, `2 runs`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _rate(value: float | None) -> str:
    return UNKNOWN if value is None else _number(value)


def _short(value: float) -> str:
    """A number with its prefix: `25.6 M`, with 1000, 10^6, 10^9 and 10^12 as k, M, G and T."""
    for power, prefix in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if value >= 10**power:
            return f"{_number(value / 10**power)} {prefix}"
    return f"{_number(value)} "


def _number(value: float) -> str:
    """Three significant digits, or all digits before the point, never with an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{float(f'{value:.3g}'):.6f}".rstrip("0").rstrip(".")
