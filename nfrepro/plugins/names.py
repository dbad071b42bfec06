"""A researcher's own code by name: `my_pkg.nets:make`, found in the project's folders, then among installed packages.

No torch, and no import of own code: names are checked by reading their files.
"""

import ast
import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from nfrepro.errors import InputError, did_you_mean
from nfrepro.plugins.signatures import Parameters, bound_names, parameters_of_definition

# Discriminator tags: a choice of this package, or a user's own code. They contain a space, so that no key equals them.
Kind = Literal["of this package", "own code"]
OURS: Kind = "of this package"
OWN: Kind = "own code"

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

_folders: list[str] = []


def is_name(text: str) -> bool:
    """Whether `text` names code outside this package, whose own choices have no colon."""
    return ":" in text


def label(text: str) -> str:
    """`text` in a form that can be part of the name of a run's folder."""
    return text.replace(":", ".")


def origin_of(value: Any) -> Kind:
    """The union tag for `value`, which is a name, or a mapping or options with a name."""
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", value)
    return OWN if isinstance(name, str) and is_name(name) else OURS


def search_in(folders: Iterable[str | Path]) -> None:
    """Makes `folders`, in this order, the first places to look for names, instead of any set before."""
    _folders[:] = dict.fromkeys(str(Path(folder).absolute()) for folder in folders)
    importlib.invalidate_caches()


def search_folders() -> tuple[str, ...]:
    """The folders last given to `search_in`."""
    return tuple(_folders)


def find_module(module: str) -> ModuleSpec | None:
    """The spec that `module` would be imported from, without importing it or its packages; None if not found."""
    top, *rest = module.split(".")
    found = PathFinder.find_spec(top, [*_folders, *sys.path])
    if found is None:
        try:
            found = importlib.util.find_spec(top)
        except ValueError:  # a module that was imported without a spec, say __main__
            found = None
    for part in rest:
        if found is None or found.submodule_search_locations is None:
            return None
        # By the last part alone: given the whole name, Python would look for the package among those imported.
        found = PathFinder.find_spec(part, list(found.submodule_search_locations))
    return found


def source_path(spec: ModuleSpec | None) -> Path | None:
    """The file of a module; None for a package without one, and for modules built into Python."""
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin is not None else None


def parse(path: Path) -> ast.Module:
    """The syntax tree of a Python file. Raises `InputError`, with any faulty line, if the file cannot be parsed."""
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise InputError(f"{path}:{error.lineno}: {error.msg}: correct the file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}): make it readable") from None


@dataclass(frozen=True)
class Call:
    """The arguments that a callable gets for any options: in order, by name, and by name only if it takes them."""

    positional: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    if_taken: tuple[str, ...] = ()


def check_name(text: str) -> str:
    """`text` itself, if its module can be found and has the named attribute, as far as reading the file tells.

    Raises `InputError` for a malformed name, a module that cannot be found, or an attribute that the module lacks.
    """
    _definition(text)
    return text


# Name of a user's own activation, network, data set, …; a run's `source` covers the code that it names.
OwnName = Annotated[str, AfterValidator(check_name)]


def check_options(text: str, options: Mapping[str, Any], call: Call) -> None:
    """Raises `InputError` if `text` does not take `options`, as far as reading its file tells."""
    _check_json(text, options)
    if (definition := _definition(text)) is not None and (found := parameters_of_definition(definition)) is not None:
        check_arguments(text, found, options, call)


def split_name(text: str) -> tuple[str, str]:
    if not _NAME.fullmatch(text):
        raise InputError(f"{text}: is not of the form package.module:name")
    module, _, attribute = text.partition(":")
    return module, attribute


def _definition(text: str) -> ast.stmt | None:
    """The statement that defines the attribute that `text` names; None if only execution can tell."""
    module, attribute = split_name(text)
    spec = find_module(module)
    if spec is None:
        searched = f" in {', '.join(_folders)}, nor among installed packages" if _folders else ""
        raise InputError(f"{text}: no module {module}{searched}: add it there, or correct the name")
    path = source_path(spec)
    if path is None or path.suffix != ".py":
        return None
    try:
        bound = bound_names(parse(path))
    except InputError as error:
        raise InputError(f"{text}: {error}") from None
    first = attribute.partition(".")[0]
    if bound is None:
        return None
    if first not in bound:
        raise InputError(f"{text}: {path} has no {first}{did_you_mean(first, bound)}")
    return None if "." in attribute else bound[first]


def check_arguments(text: str, found: Parameters, options: Mapping[str, Any], call: Call) -> None:
    given = {*call.named, *call.if_taken}
    for option in options:
        if option in given:
            raise InputError(f"{text}: option {option} is set by the run itself: leave it out")
    rest = found.after(len(call.positional))
    if rest is None:
        raise InputError(f"{text}: does not take {_listed(call.positional)} by position")
    for argument in call.named:
        if not rest.accepts(argument):
            raise InputError(f"{text}: does not take the argument {argument}, which every run passes to it: add it")
    choices = [name for name in rest.names if name not in given]
    for option in options:
        if not rest.accepts(option):
            hint = did_you_mean(option, choices) or (f"; it takes {_listed(choices)}" if choices else "; it takes none")
            raise InputError(f"{text}: unexpected option {option}{hint}")
    for name in rest.required:
        if name not in given and name not in options:
            raise InputError(f"{text}: option {name} is missing: it has no default")


def _check_json(text: str, options: Mapping[str, Any]) -> None:
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{text}: options have to be text, finite numbers, lists and mappings: {error}") from None


def _listed(names: Collection[str]) -> str:
    return ", ".join(names)
