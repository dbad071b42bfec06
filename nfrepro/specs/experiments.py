"""Finding experiment files and reading them together with the files they extend."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from nfrepro.errors import InputError, did_you_mean
from nfrepro.specs.documents import Document, read_document
from nfrepro.specs.origins import Origin, display_path, problem, written

_NAME = re.compile(r"[A-Za-z0-9_]+")
_NO_EXPERIMENT = "claims.yaml"
_TAKEN = "runs"  # results/runs/ has the runs of all experiments
_LONGEST_CHAIN = 32
# Old names of shipped experiments -> their names now. Runs that were stored under an old name keep it.
RENAMED = {"depth": "table_1", "small_batch": "table_2", "nf_regnet": "figure_3"}


@dataclass(frozen=True)
class Experiment:
    """An experiment file as read: its name, claims and task, its scales, and the documents that make it up."""

    name: str
    title: str
    claims: tuple[str, ...]
    path: Path
    task: str
    task_origin: Origin
    scales: tuple[str, ...]
    documents: tuple[Document, ...]  # extended ones first, its own last


def find_experiments(folder: Path) -> list[Path]:
    """The experiment files of the folder, sorted, not of its subfolders. Raises `InputError` without a folder."""
    if not folder.is_dir():
        raise problem(
            display_path(folder),
            "no such folder of experiments: name it by --experiments or NFREPRO_EXPERIMENTS, or make one: nfrepro init",
        )
    return sorted(
        path
        for path in folder.glob("*.yaml")
        if path.is_file() and path.name != _NO_EXPERIMENT and not path.name.startswith(".")
    )


def load_experiment(name_or_path: str, folder: Path) -> Experiment:
    """The experiment of that name in the folder, or at that path if it ends in .yaml.

    The path's own folder is then the root for `extends`. Raises `InputError`, in one line, for any fault in the files.
    """
    if not name_or_path.isprintable():
        raise InputError(f"experiment {name_or_path!a} is neither the name nor the path of an experiment")
    path = Path(name_or_path) if name_or_path.endswith(".yaml") else _named(name_or_path, folder)
    _check_name(path.stem)
    if not path.exists():
        refuse_old_name(path.stem)
    documents = _extended(path, path.parent, (), set())
    task = next((document.task for document in reversed(documents) if document.task), None)
    if task is None:
        raise problem(display_path(path), "missing required key task")
    return Experiment(
        name=path.stem,
        title=next((d.title for d in reversed(documents) if d.title is not None), path.stem),
        claims=next((d.claims for d in reversed(documents) if d.claims is not None), ()),
        path=path,
        task=task[0],
        task_origin=task[1],
        scales=tuple(dict.fromkeys(s for d in documents for arm in (d.common, *d.arms.values()) for s in arm.scales)),
        documents=tuple(documents),
    )


def refuse_old_name(name: str) -> None:
    """Raise `InputError` with the name that an experiment has now, if `name` is an old one."""
    if name in RENAMED:
        raise InputError(f"{name} is now {RENAMED[name]}: nfrepro sweep {RENAMED[name]}")


def _named(name: str, folder: Path) -> Path:
    _check_name(name)
    names = [path.stem for path in find_experiments(folder)]
    if name not in names:
        refuse_old_name(name)
        listed = f"there are {', '.join(names)}" if names else "there are none"
        hint = did_you_mean(name, names)
        raise problem(display_path(folder), f"no experiment {name}{hint}{';' if hint else ','} {listed}")
    return folder / f"{name}.yaml"


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(f"experiment name {written(name)} may hold only letters, digits and _")
    if name == _TAKEN:
        raise InputError(f"experiment name {name} is reserved: results/{name}/ holds all runs; choose another name")


def _extended(path: Path, root: Path, chain: tuple[Path, ...], done: set[str]) -> list[Document]:
    """The documents that `path` extends, depth first, its own last; repeated ones count where they came first."""
    document = read_document(path)
    documents: list[Document] = []
    for text, origin in document.extends:
        extended = _inside(text, root, origin)
        parents = (*chain, path)
        real_path = os.path.realpath(extended)
        if real_path in map(os.path.realpath, parents):
            shown = " -> ".join(display_path(parent) for parent in (*parents, extended))
            raise problem(origin, f"extends: files extend each other: {shown}")
        if len(parents) > _LONGEST_CHAIN:
            raise problem(origin, f"extends: a chain of more than {_LONGEST_CHAIN} files")
        if real_path not in done:
            documents += _extended(extended, root, parents, done)
            done.add(real_path)
    return [*documents, document]


def _inside(text: str, root: Path, origin: Origin) -> Path:
    """The file that `extends` names; it is resolved first, so that neither `..` nor a link leads out of the root."""
    if not text.isprintable():
        raise problem(origin, f"extends: {written(text)} is no path")
    path = root / text
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise problem(origin, f"extends: {text} lies outside {display_path(root)}")
    if not os.path.isfile(path):
        raise problem(origin, f"extends: no file {display_path(path)}")
    return path
