"""Your own task: calls a function by name and checks its result."""

from nfrepro.errors import InputError
from nfrepro.plugins.loading import load
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.own_options import CALL, OwnTask
from nfrepro.training.context import RunContext


def run(task: OwnTask, ctx: RunContext) -> Outcome:
    """Calls the function. Raises `InputError` if it returns neither an `Outcome` nor a mapping of numbers."""
    found = load(task.function, task.options, CALL)(task, ctx, **task.options)
    if isinstance(found, Outcome):
        return found
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InputError(f"{task.function}: returned {type(found).__name__}: return an Outcome, or numbers by name")
    return Outcome("completed", found)
