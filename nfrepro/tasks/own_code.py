"""Imports a user's code that a run names before anything starts, to report faults that only execution reveals."""

from nfrepro.data.options import LOADER, OwnDataOptions
from nfrepro.errors import InputError
from nfrepro.models.own_options import OwnNetworkOptions
from nfrepro.options import Options, TaskOptions, parts
from nfrepro.plugins.loading import load
from nfrepro.plugins.names import is_name
from nfrepro.tasks.own_options import CALL, OwnTask
from nfrepro.training.options import MAKER, TrainOptions


def import_own_code(options: TaskOptions) -> None:
    """Imports the code. Raises `InputError`, with the key, if it cannot be imported or does not take its options."""
    for path, part in parts(options):
        try:
            _import(part)
        except InputError as error:
            raise InputError(f"{'.'.join(path) or 'task'}: {error}") from None


def _import(part: Options) -> None:
    if isinstance(part, OwnNetworkOptions):
        from nfrepro.models.registry import try_maker  # not at the top: it imports torch

        try_maker(part)
    elif isinstance(part, OwnDataOptions):
        load(part.name, part.options, LOADER)
    elif isinstance(part, OwnTask):
        load(part.function, part.options, CALL)
    elif isinstance(part, TrainOptions) and is_name(part.optimizer):
        load(part.optimizer, part.optimizer_options, MAKER)
    elif is_name(activation := getattr(part, "activation", "")):
        from nfrepro.models.activations import ACTIVATIONS

        ACTIVATIONS[activation].gamma("exact")
