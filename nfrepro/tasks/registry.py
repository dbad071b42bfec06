"""Tasks by name. No torch: a task's own module is imported when a run executes."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nfrepro.errors import InputError
from nfrepro.options import TaskOptions
from nfrepro.plugins.names import is_name
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.options import (
    CovariateShiftTask,
    GainTask,
    GradientCorrelationTask,
    LayerMomentsTask,
    NetworkPropertiesTask,
    NonlinearityTask,
    ProbeTask,
    SmoothnessTask,
    TrainTask,
)
from nfrepro.tasks.own_options import own_task_options
from nfrepro.training.context import RunContext


@dataclass(frozen=True)
class Task:
    """One kind of run."""

    options: type[TaskOptions]
    module: str  # has `run(options, ctx) -> Outcome`
    # Called before any run starts: makes sure that the data these options need are here; may fetch them. Raises
    # InputError.
    prepare: Callable[[Any, Callable[[str], None]], None]
    # Whether several processes may execute a run together; then the module has `check_processes(options, count)`.
    divides: bool = False

    def check_processes(self, options: TaskOptions, count: int) -> None:
        """Raise `InputError` if `count` processes cannot execute a run together."""
        if count > 1 and not self.divides:
            raise InputError(f"a run of this task cannot be divided among {count} processes")
        if count > 1:
            importlib.import_module(self.module).check_processes(options, count)

    def run(self, options: TaskOptions, ctx: RunContext) -> Outcome:
        """Executes one run to its end. Raises `Interrupted` when asked to stop."""
        outcome: Outcome = importlib.import_module(self.module).run(options, ctx)
        return outcome


def _find_data(options: Any, report: Callable[[str], None]) -> None:
    if options.data.name == "gaussian":
        return
    from nfrepro.data.location import locate  # not at the top: it imports numpy, and most commands need no data

    locate(options.data, report=report)


def _find_data_if_any(options: Any, report: Callable[[str], None]) -> None:
    if options.data is not None:
        _find_data(options, report)


def _needs_nothing(options: Any, report: Callable[[str], None]) -> None:
    pass


class Tasks(dict[str, Task]):
    """Tasks by name; a user's own, `my_pkg.tasks:run`, is found in the project's code, and is not among the keys."""

    def __missing__(self, name: str) -> Task:
        if not is_name(name):
            raise KeyError(name)
        return Task(own_task_options(name), "nfrepro.tasks.own", _find_data_if_any)


class Schemas(dict[str, type[TaskOptions]]):
    """The options of tasks by name, like `Tasks`."""

    def __missing__(self, name: str) -> type[TaskOptions]:
        return TASKS[name].options


TASKS = Tasks(
    {
        "train": Task(TrainTask, "nfrepro.tasks.watched_training", _find_data, divides=True),
        "probe": Task(ProbeTask, "nfrepro.tasks.probe", _find_data),
        "gain": Task(GainTask, "nfrepro.tasks.gain", _needs_nothing),
        "layer_moments": Task(LayerMomentsTask, "nfrepro.tasks.layer_moments", _needs_nothing),
        "network_properties": Task(NetworkPropertiesTask, "nfrepro.tasks.network_properties", _needs_nothing),
        "covariate_shift": Task(CovariateShiftTask, "nfrepro.tasks.covariate_shift", _find_data),
        "nonlinearity": Task(NonlinearityTask, "nfrepro.tasks.nonlinearity", _find_data),
        "smoothness": Task(SmoothnessTask, "nfrepro.tasks.smoothness", _find_data),
        "gradient_correlation": Task(GradientCorrelationTask, "nfrepro.tasks.gradient_correlation", _find_data),
    }
)

SCHEMAS = Schemas({name: task.options for name, task in TASKS.items()})
