"""Parameters of a function, from its definition or from the function itself. No torch."""

import ast
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Parameters:
    """Parameters in order: positional ones, then keyword-only ones."""

    by_position: tuple[str, ...]
    by_name_only: tuple[str, ...]
    with_default: frozenset[str]
    any_position: bool  # *args
    any_name: bool  # **options
    position_only: int = 0  # how many of the first cannot be given by name

    @property
    def names(self) -> tuple[str, ...]:
        """The names of parameters that may be given by name."""
        return (*self.by_position[self.position_only :], *self.by_name_only)

    @property
    def required(self) -> tuple[str, ...]:
        """The names of parameters that have to be given."""
        return tuple(name for name in (*self.by_position, *self.by_name_only) if name not in self.with_default)

    def accepts(self, name: str) -> bool:
        return self.any_name or name in self.names

    def after(self, count: int) -> "Parameters | None":
        """The parameters left once `count` arguments are given by position; None if that is too many."""
        if count > len(self.by_position) and not self.any_position:
            return None
        left = max(0, self.position_only - count)
        rest = self.by_position[count:]
        return Parameters(rest, self.by_name_only, self.with_default, self.any_position, self.any_name, left)


def parameters_of_callable(function: Callable[..., Any]) -> Parameters | None:
    """The parameters of `function`; None if Python does not know them."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    of_kind = {kind: [p.name for p in found if p.kind is kind] for kind in inspect._ParameterKind}
    only = of_kind[inspect.Parameter.POSITIONAL_ONLY]
    return Parameters(
        (*only, *of_kind[inspect.Parameter.POSITIONAL_OR_KEYWORD]),
        tuple(of_kind[inspect.Parameter.KEYWORD_ONLY]),
        frozenset(p.name for p in found if p.default is not inspect.Parameter.empty),
        bool(of_kind[inspect.Parameter.VAR_POSITIONAL]),
        bool(of_kind[inspect.Parameter.VAR_KEYWORD]),
        len(only),
    )


def parameters_of_definition(statement: ast.stmt) -> Parameters | None:
    """The parameters of the function or class that `statement` defines; None if only execution can tell."""
    if isinstance(statement, ast.FunctionDef) and not statement.decorator_list:
        return _of_arguments(statement.args)
    if isinstance(statement, ast.ClassDef) and not statement.decorator_list and not statement.keywords:
        for inner in statement.body:
            if isinstance(inner, ast.FunctionDef) and inner.name in ("__init__", "__new__"):
                found = None if inner.decorator_list else _of_arguments(inner.args)
                return None if found is None else found.after(1)
    return None


def _of_arguments(arguments: ast.arguments) -> Parameters:
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    only = [argument.arg for argument in arguments.kwonlyargs]
    defaults = positional[len(positional) - len(arguments.defaults) :]
    named = [name for name, default in zip(only, arguments.kw_defaults, strict=True) if default is not None]
    return Parameters(
        tuple(positional),
        tuple(only),
        frozenset([*defaults, *named]),
        arguments.vararg is not None,
        arguments.kwarg is not None,
        len(arguments.posonlyargs),
    )


def bound_names(module: ast.Module) -> dict[str, ast.stmt] | None:
    """The names at the top level of a module, each with the statement that binds it last.

    None if the text does not tell them: the module imports `*`, or defines `__getattr__`.
    """
    bound: dict[str, ast.stmt] = {}
    for statement in _at_the_top(module.body):
        if isinstance(statement, ast.ImportFrom) and any(alias.name == "*" for alias in statement.names):
            return None
        bound |= dict.fromkeys(_names_of(statement), statement)
    return None if "__getattr__" in bound else bound


def _at_the_top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, including those in `if`, `try`, `with`, `match` and loops, but not in functions."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for name in ("body", "orelse", "finalbody"):
            yield from _at_the_top(getattr(statement, name, []))
        for handler in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
            yield from _at_the_top(handler.body)


def _names_of(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
    else:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
