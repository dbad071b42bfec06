"""Expands an experiment at one scale into its runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, product
from math import prod
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nfrepro.errors import InputError, did_you_mean
from nfrepro.options import TaskOptions, old_paths
from nfrepro.plugins.names import is_name, search_folders, search_in
from nfrepro.specs.documents import Arm, Entry
from nfrepro.specs.experiments import Experiment
from nfrepro.specs.identity import Resolved, id_config, resolve
from nfrepro.specs.layers import Layered, assign, override, read_override, record, stack
from nfrepro.specs.new_names import under_new_names
from nfrepro.specs.origins import KeyPath, Origin, display_path, dotted, problem, written
from nfrepro.specs.validation import config_keys, explain

MAX_RUNS = 100_000


@dataclass(frozen=True)
class Run:
    """One run: where it belongs, its task, and its complete config, which is JSON and includes the seed.

    `outside_id` holds the dotted keys of the config that are not part of the id: options added after the first schema
    and left at their defaults. `old_names` holds the first schema's names of options renamed since.
    """

    id: str
    experiment: str
    scale: str
    task: str
    config: dict[str, Any]
    outside_id: tuple[str, ...] = ()
    old_names: dict[str, str] = field(default_factory=dict)
    # Folders of the user's own code, if the config names any. Not part of the run itself.
    code_folders: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for name in ("outside_id", "code_folders"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # a list if it was JSON

    @property
    def id_config(self) -> dict[str, Any]:
        """The part of the config that the id is a hash of."""
        return id_config(self.config, self.outside_id, self.old_names)


@dataclass(frozen=True, slots=True)
class _Point:
    """One choice of values on the axes of an arm."""

    arm: Layered
    values: tuple[Entry, ...]

    def config(self) -> dict[str, Any]:
        config = _copy(self.arm.base)
        for entry in (*self.values, *self.arm.overrides):
            assign(config, entry)
        return config

    def origins(self) -> dict[KeyPath, Origin]:
        origins = dict(self.arm.origins)
        for entry in (*self.values, *self.arm.overrides):
            record(origins, entry)
        return origins

    def __str__(self) -> str:
        return ", ".join(f"{dotted(entry.path)}: {written(entry.value)}" for entry in self.values if entry.value != {})


def expand(
    experiment: Experiment, scale: str, schemas: Mapping[str, type[TaskOptions]], overrides: Sequence[str] = ()
) -> list[Run]:
    """The runs of the experiment at that scale, in the order of the file, the last axis fastest.

    `grid` axes come before `zip` axes. Raises `InputError`, with the place that set the key, for a config that the
    task's schema refuses, for a scale that the experiment lacks, for duplicate runs, for no runs and for more than
    100,000.
    """
    search_in((experiment.path.parent, Path.cwd()))
    schema = _schema(experiment, schemas)
    _check_scale(experiment, scale)
    names = old_paths(schema)
    pins = [(names.get(path, path), node) for path, node in map(read_override, overrides)]
    _check_only(experiment)
    arms = [override(arm, pins) for arm in _arms(under_new_names(experiment, names), scale)]
    count = sum(prod(len(axis.points) for axis in arm.axes) for arm in arms)
    if count > MAX_RUNS:
        raise problem(display_path(experiment.path), f"{count} runs at scale {scale}; the limit is {MAX_RUNS}")
    keys = config_keys(schema)
    runs = list(_runs(experiment, scale, schema, arms, keys))
    if not runs:
        raise problem(display_path(experiment.path), f"no arm at scale {scale}: see `only`")
    return runs


def _schema(experiment: Experiment, schemas: Mapping[str, type[TaskOptions]]) -> type[TaskOptions]:
    task = experiment.task
    if is_name(task):
        try:
            return schemas[task]
        except InputError as error:
            raise problem(experiment.task_origin, f"task: {error}") from None
    if task not in schemas:
        hint = did_you_mean(task, schemas)
        known = f"{';' if hint else ','} known are {', '.join(schemas)}"
        raise problem(experiment.task_origin, f"task: unknown task {task}{hint}{known}")
    return schemas[task]


def _check_scale(experiment: Experiment, scale: str) -> None:
    if scale not in experiment.scales:
        hint = did_you_mean(scale, experiment.scales)
        listed = f"it has {', '.join(experiment.scales)}" if experiment.scales else "it has none"
        raise problem(display_path(experiment.path), f"no scale {scale}{hint}{';' if hint else ','} {listed}")


def _check_only(experiment: Experiment) -> None:
    """Raises `InputError` if an arm names a scale that the experiment does not have."""
    for document in experiment.documents:
        for name, arm in document.arms.items():
            for scale in arm.only or ():
                if scale not in experiment.scales:
                    hint = did_you_mean(scale, experiment.scales)
                    raise problem(arm.origin, f"arms.{name}.only: no scale {scale}{hint}")


def _arms(experiment: Experiment, scale: str) -> Iterator[Layered]:
    """The stacked layers of each arm: documents, the arm in them, the scale in them, the arm's scale in them."""
    documents = [document.common for document in experiment.documents]
    named: dict[str, list[Arm]] = {}
    for document in experiment.documents:
        for name, arm in document.arms.items():
            named.setdefault(name, []).append(arm)
    for arms in named.values() or [[]]:
        if any(arm.only is not None and scale not in arm.only for arm in arms):
            continue
        blocks = [
            *(arm.block for arm in (*documents, *arms)),
            *(arm.scales[scale] for arm in (*documents, *arms) if scale in arm.scales),
        ]
        yield stack(blocks, (arms or documents)[-1].origin)


def _runs(
    experiment: Experiment,
    scale: str,
    schema: type[TaskOptions],
    arms: Sequence[Layered],
    keys: frozenset[str],
) -> Iterator[Run]:
    seen: dict[str, _Point] = {}
    for point in chain.from_iterable(map(_points, arms)):
        config = point.config()
        try:
            options = schema.model_validate(config)
        except ValidationError as error:
            raise explain(error, config, point.origins(), keys) from None
        if options.source is not None:
            raise problem(point.origins()[("source",)], "source: is filled in by the program: leave it out")
        resolved = _resolved(options, experiment, point)
        if resolved.id in seen:
            raise _duplicate(seen[resolved.id], point)
        seen[resolved.id] = point
        where = (experiment.name, scale, experiment.task)
        folders = search_folders() if resolved.config.get("source") else ()
        yield Run(resolved.id, *where, resolved.config, resolved.outside_id, resolved.old_names, folders)


def _resolved(options: TaskOptions, experiment: Experiment, point: _Point) -> Resolved:
    """Raises `InputError`, at the line of the arm, if the user's own code cannot be read."""
    try:
        return resolve(options, experiment.task)
    except InputError as error:
        raise problem(point.arm.origin, str(error)) from None


def _points(arm: Layered) -> Iterator[_Point]:
    for parts in product(*(axis.points for axis in arm.axes)):
        yield _Point(arm, tuple(chain.from_iterable(parts)))


def _duplicate(first: _Point, second: _Point) -> InputError:
    """The error that names the values of both runs and the line that gives them a second time."""
    if first.arm is second.arm:
        pairs = zip(first.values, second.values, strict=False)
        line, earlier = next((b.origin, a.origin) for a, b in pairs if a is not b)
    else:
        line, earlier = second.arm.origin, first.arm.origin
    values = f" ({second})" if second.values else ""
    return problem(line, f"duplicate run{values}: the same config as at {earlier}")


def _copy(config: dict[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in config.items()}
