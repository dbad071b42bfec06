"""The config of a run of your own task. No torch."""

import json
from functools import cache
from typing import Any, ClassVar

from pydantic import Field, field_validator

from nfrepro.data.options import DataOptions
from nfrepro.models.options import ModelOptions
from nfrepro.options import TaskOptions
from nfrepro.plugins.names import Call, check_name, check_options, label
from nfrepro.training.options import TrainOptions

# The arguments of a task, other than its options: the config (an `OwnTask`) and where it runs (`RunContext`).
CALL = Call(positional=("task", "ctx"))


class OwnTask(TaskOptions):
    """A task given by the name of its function: run(task, ctx, **options) returns its numbers, or an `Outcome`."""

    function: ClassVar[str]

    # Keyword arguments of the function.
    options: dict[str, Any] = Field(default={}, validate_default=True)
    # Checked as for task `train`, for a task that uses them; null: it has none.
    model: ModelOptions | None = None
    data: DataOptions | None = None
    train: TrainOptions | None = None

    @field_validator("options")
    @classmethod
    def _are_taken(cls, options: dict[str, Any]) -> dict[str, Any]:
        check_options(cls.function, options, CALL)
        return options

    def label(self) -> str:
        return f"{label(self.function)}-{super().label()}"

    def __hash__(self) -> int:
        return hash((self.function, json.dumps(self.model_dump(mode="json"), sort_keys=True)))


@cache
def own_task_options(function: str) -> type[OwnTask]:
    """The schema of the task `my_pkg.tasks:run`. Raises `InputError` if there is no such function."""
    check_name(function)
    return type("OwnTask", (OwnTask,), {"function": function, "__module__": __name__, "__doc__": OwnTask.__doc__})
