"""State of a researcher's own code that a run used: a hash of its files, versions of packages. No torch.

The files of a name are that of its module and those of the modules it imports, at any depth, if they belong to the
project. Imports by a computed name, and files that are not modules, are not seen.
"""

import ast
import hashlib
import site
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from nfrepro.errors import InputError
from nfrepro.options import Options, parts
from nfrepro.plugins.names import find_module, is_name, parse, source_path

# Keys whose values may name own code.
NAMING_KEYS = ("name", "activation", "optimizer")

_INSTALLED = ("site-packages", "dist-packages")
_THIS_PACKAGE = "nfrepro"


def own_names(options: Options, task: str = "") -> list[str]:
    """The names of users' own code among `task` and the values in its `options`."""
    values = (getattr(part, key, None) for _, part in parts(options) for key in NAMING_KEYS)
    return [name for name in (task, *values) if isinstance(name, str) and is_name(name)]


def source_of(names: Iterable[str]) -> str | None:
    """The state of the code that `names` refer to, such as `sha256:…, timm==1.0.9`; None if there are no names.

    Equal code gives equal states, wherever its folders are. Raises `InputError` for a module that cannot be found or
    read.
    """
    modules = sorted({name.partition(":")[0] for name in names})
    if not modules:
        return None
    files = local_files(modules)
    hashes = [f"sha256:{_digest(files)}"] if files else []
    return ", ".join([*hashes, *sorted({_version(module) for module in modules if module not in files})])


def check_source(names: Iterable[str], expected: str | None) -> None:
    """Raises `InputError` if the code that `names` refer to is not in the state `expected`."""
    names = list(names)
    found = source_of(names)
    if found != expected:
        raise InputError(
            f"the code of {', '.join(names)} has changed since this run was planned ({expected}, now {found}): "
            "start the sweep again; they become other runs"
        )


def local_files(modules: Iterable[str]) -> dict[str, Path]:
    """The project's files that importing `modules` executes, by the names of their modules."""
    found: dict[str, Path] = {}
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        for name in _with_parents(module):
            if name in seen or name.partition(".")[0] == _THIS_PACKAGE:
                continue
            seen.add(name)
            path = source_path(find_module(name))
            if path is not None and _is_local(path):
                found[name] = path
                if path.suffix == ".py":
                    waiting.extend(_imports(name, path, path.stat().st_mtime_ns))
    return found


def _digest(files: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        try:
            content = files[name].read_bytes()
        except OSError as error:
            raise InputError(f"{files[name]}: cannot be read ({error.strerror or error})") from None
        digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def _with_parents(module: str) -> Iterator[str]:
    """a, a.b and a.b.c for a.b.c: importing the last executes them all."""
    words = module.split(".")
    for length in range(1, len(words) + 1):
        yield ".".join(words[:length])


@lru_cache(maxsize=1024)
def _imports(module: str, path: Path, modified: int) -> tuple[str, ...]:
    """The modules that the file of `module` may import, including names that may turn out not to be modules."""
    return tuple(_imported_names(module, path))


def _imported_names(module: str, path: Path) -> Iterator[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) + 1 - node.level]) if node.level else ""
            target = ".".join(word for word in (base, node.module) if word)
            if target:
                yield target
                yield from (f"{target}.{alias.name}" for alias in node.names if alias.name != "*")


def _is_local(path: Path) -> bool:
    """Whether a file belongs to the project, rather than to Python or to a folder of installed packages."""
    path = path.resolve()
    return not any(part in _INSTALLED for part in path.parts) and not any(
        path.is_relative_to(folder) for folder in _installed_folders()
    )


@cache
def _installed_folders() -> tuple[Path, ...]:
    named = [sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple(Path(folder).resolve() for folder in [*named, *site.getsitepackages(), site.getusersitepackages()])


def _version(module: str) -> str:
    """`package==version` of an installed module."""
    top = module.partition(".")[0]
    for distribution in (top, *_distributions().get(top, ())):
        try:
            return f"{distribution}=={version(distribution)}"
        except PackageNotFoundError:
            continue
    raise InputError(f"{module}: belongs to no installed package of known version: move its file into the project")


@cache
def _distributions() -> dict[str, list[str]]:
    return {top: list(names) for top, names in packages_distributions().items()}
