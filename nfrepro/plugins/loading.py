"""Import of a researcher's own code."""

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nfrepro.errors import InputError
from nfrepro.plugins.names import Call, check_arguments, find_module, search_folders, source_path, split_name
from nfrepro.plugins.signatures import parameters_of_callable
from nfrepro.plugins.sources import local_files

# Local module -> its file, modification time and size when this process last imported it.
_imported: dict[str, tuple[str, int, int]] = {}


def load(text: str, options: Mapping[str, Any], call: Call) -> Callable[..., Any]:
    """The callable named `text`; executes its file. Raises `InputError` as `check_options` does, now with certainty."""
    found = load_attribute(text)
    if (parameters := parameters_of_callable(found)) is not None:
        check_arguments(text, parameters, options, call)
    return found


def load_attribute(text: str) -> Callable[..., Any]:
    """The callable named `text`. Raises `InputError` if importing it fails, or if it is not callable."""
    module, attribute = split_name(text)
    try:
        _forget_changed(module)
    except InputError as error:
        raise InputError(f"{text}: {error}") from None
    for folder in reversed(search_folders()):
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(0, folder)
    try:
        imported = importlib.import_module(module)
        found: Any = imported
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # a module may raise anything, or exit, while it is imported
        raise InputError(f"{text}: cannot be imported: {type(error).__name__}: {error}") from None
    expected, actual = source_path(find_module(module)), getattr(imported, "__file__", None)
    if expected is not None and actual is not None and expected.resolve() != Path(actual).resolve():
        raise InputError(f"{text}: {module} is already imported from {actual}, not from {expected}: rename yours")
    if not callable(found):
        raise InputError(f"{text}: is not callable")
    return found  # type: ignore[no-any-return]


def takes(function: Callable[..., Any], argument: str) -> bool:
    """Whether `function` has a parameter named `argument` that can be given by name."""
    found = parameters_of_callable(function)
    return found is not None and argument in found.names


def _forget_changed(module: str) -> None:
    """Makes Python import local files again if one has changed, or moved, since this process imported it.

    Workers see only one state of the code; a longer-lived process, such as a notebook's, may see several.
    """
    files = local_files([module])
    state = {name: (str(path), path.stat().st_mtime_ns, path.stat().st_size) for name, path in files.items()}
    if any(_imported.get(name, now) != now for name, now in state.items()):
        for name in state:
            sys.modules.pop(name, None)
    _imported.update(state)
