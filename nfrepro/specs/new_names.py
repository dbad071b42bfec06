"""Experiment files that use old names of options."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from nfrepro.options import TaskOptions, old_paths
from nfrepro.specs.documents import Arm, Axis, Block, Document, Entry, refuse_overlaps
from nfrepro.specs.experiments import Experiment
from nfrepro.specs.layers import read_override
from nfrepro.specs.origins import KeyPath, Origin, dotted

Names = Mapping[KeyPath, KeyPath]  # the new path of each old one


def under_new_names(experiment: Experiment, names: Names) -> Experiment:
    """The `experiment` with renamed keys under their new names."""
    if not names:
        return experiment
    return replace(experiment, documents=tuple(_document(document, names) for document in experiment.documents))


def old_name_notes(experiment: Experiment, schema: type[TaskOptions], overrides: Sequence[str] = ()) -> list[str]:
    """One line for each place with an old name in the experiment's files and overrides, with the new name."""
    names = old_paths(schema)
    used = [(path, origin) for document in experiment.documents for path, origin in _keys(document)]
    used += [(path, node.origin) for path, node in map(read_override, overrides)]
    return [
        f"{origin}: {dotted(path)} is called {dotted(names[path])} now; the old name still works"
        for path, origin in dict.fromkeys(used)
        if path in names
    ]


def _keys(document: Document) -> Iterator[tuple[KeyPath, Origin]]:
    arms = [document.common, *document.arms.values()]
    for block in chain.from_iterable((arm.block, *arm.scales.values()) for arm in arms):
        yield from ((entry.path, entry.origin) for entry in block.set)
        yield from chain.from_iterable(axis.keys.items() for axis in (*block.grid, *(block.zip or ())))


def _document(document: Document, names: Names) -> Document:
    arms = {name: _arm(arm, names) for name, arm in document.arms.items()}
    return replace(document, common=_arm(document.common, names), arms=arms)


def _arm(arm: Arm, names: Names) -> Arm:
    scales = {name: _block(block, names) for name, block in arm.scales.items()}
    return replace(arm, block=_block(arm.block, names), scales=scales)


def _block(block: Block, names: Names) -> Block:
    settings = _entries(block.set, names)
    refuse_overlaps((entry.path, entry.origin) for entry in settings if entry.value != {})
    axes = chain.from_iterable(axis.keys.items() for axis in (*block.grid, *(block.zip or ())))
    refuse_overlaps((names.get(path, path), origin) for path, origin in axes)
    return replace(
        block,
        set=settings,
        grid=_axes(block.grid, names),
        zip=None if block.zip is None else _axes(block.zip, names),
    )


def _axes(axes: Sequence[Axis], names: Names) -> tuple[Axis, ...]:
    return tuple(
        Axis(
            {names.get(path, path): origin for path, origin in axis.keys.items()},
            tuple(_entries(point, names) for point in axis.points),
            axis.section,
        )
        for axis in axes
    )


def _entries(entries: Sequence[Entry], names: Names) -> tuple[Entry, ...]:
    return tuple(replace(entry, path=names.get(entry.path, entry.path)) for entry in entries)
