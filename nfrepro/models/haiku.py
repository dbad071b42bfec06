"""Weights of the authors' released JAX networks (deepmind-research/nfnets), copied into ours.

Haiku names a parameter by module and name: `NF_ResNet/~/nf_res_block_3/~/conv1` has `w`, `gain` and `bias`. `~` marks
modules made in a constructor. Blocks are numbered across all stages; the first has no number. Modules have the same
names in our networks, except for the norms and the layers listed below.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nfrepro.errors import InputError, first_three
from nfrepro.models.convolutions import ScaledWSConv2d
from nfrepro.models.npz import Array

Tree = Mapping[str, Mapping[str, Any]]  # module -> name -> array

# Our layers -> the authors', as patterns on the dotted name of a module inside the network or the block.
_MODULES = (
    (r"^norm(\d)(\.norm)?$", r"bn\1"),
    (r"^(initial|final)_norm(\.norm)?$", r"\1_bn"),
    (r"^shortcut\.0$", "conv_shortcut"),
    (r"^shortcut\.1$", "shortcut_bn"),
    # The authors do not name these two, so Haiku names both after their class.
    (r"^squeeze_excite\.fc0$", "squeeze_excite.linear"),
    (r"^squeeze_excite\.fc1$", "squeeze_excite.linear_1"),
)
# Scalars of FixUp that the authors name differently (code: fixup_resnet.py).
_SCALARS = {"bias_stem": "bias1", "bias_head": "bias2", "multiplier": "scale"}
_AVERAGES = {"running_mean": "mean_ema", "running_var": "var_ema"}
# Modules that some of the authors' files name differently: `se` in nf_regnet.py and nfnet.py, `stem_conv0` in nfnet.py.
_ALIASES = {"se": "squeeze_excite", "stem_conv0": "initial_conv"}
_UNREAD_STATE = ("counter", "hidden")  # with `average`, the state from which Haiku continues to average

# The path of an entry below the root: the names of its modules without `~`, then its own. Blocks are given by number.
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class _Slot:
    """One tensor of ours, and the entry of the authors' tree that fills it."""

    name: str
    tensor: Tensor
    owner: nn.Module
    path: Place


@dataclass(frozen=True)
class _Entry:
    """One array of the authors' tree."""

    name: str
    value: Any


@dataclass(frozen=True)
class _Naming:
    """The names that differ among the authors' networks."""

    root: str
    block: str

    def path(self, module: str, name: str) -> Place:
        """The path of `module`/`name` below the root."""
        parts = [_ALIASES.get(part, part) for part in _parts(module)[1:]]
        number = _block_number(parts[0], self.block) if parts else None
        return (*parts, name) if number is None else (number, *parts[1:], name)

    def spell(self, path: Place) -> str:
        """The authors' name for `path`."""
        *modules, name = path
        blocks = [self.block + (f"_{part}" if part else "") if isinstance(part, int) else part for part in modules]
        if self.root == "NFNet" and blocks[0] == "initial_conv":
            blocks = ["stem_conv0"]
        return "/~/".join([self.root, *blocks]) + f"/{name}"


def load_haiku(model: nn.Module, params: Tree, state: Tree | None = None) -> None:
    """Copies the authors' parameters into `model` in place, keeping its dtype and device.

    `params` and `state` are module name -> name -> array. Convolutions come as [H, W, I, O], linear weights as [I, O],
    norms as [1, 1, 1, C]. `state` holds BatchNorm's running averages, of which only `average` is read; without it,
    buffers are unchanged. Raises `ValueError`, with `model` unchanged, unless the tree fills the network exactly.
    """
    naming = _naming(params, state or {})
    slots = list(_slots(model, with_state=state is not None))
    entries: dict[Place, _Entry] = {}
    problems, extras, copies = [], [], []
    for tree in (params, state or {}):
        for module, arrays in tree.items():
            for name, value in arrays.items():
                entry = _Entry(f"{module}/{name}", value)
                # Two spellings of one path, such as `se` and `squeeze_excite`: the second is left over.
                if entries.setdefault(naming.path(module, name), entry) is not entry:
                    extras.append(entry.name)
    for slot in slots:
        found = entries.pop(slot.path, None)
        if found is None:
            problems.append(f"{naming.spell(slot.path)}: missing, {slot.name} needs it")
            continue
        if problem := _misfit(found, slot):
            problems.append(f"{found.name}: {problem}")
        copies.append((slot, found))
    unread = {(*slot.path[:-1], name) for slot in slots if slot.path[-1] == "average" for name in _UNREAD_STATE}
    extras += [entry.name for path, entry in entries.items() if path not in unread]
    problems += [f"{name}: the network has no place for it" for name in extras]
    if problems:
        raise InputError(f"load_haiku: {first_three(problems)}")
    with torch.no_grad():
        for slot, found in copies:
            # float64 holds every smaller type exactly, bfloat16 included.
            ours = _to_our_layout(np.asarray(found.value, np.float64), slot.owner)
            # A fresh array: torch takes neither read-only memory nor negative strides.
            slot.tensor.copy_(torch.from_numpy(np.array(ours, order="C")))


def _naming(params: Tree, state: Tree) -> _Naming:
    """The root that all modules share, and the name of blocks beneath it."""
    modules = [*params, *state]
    roots = sorted({module.split("/")[0] for module in modules})
    if len(roots) != 1:
        raise InputError(f"load_haiku: the tree must have one root, not {_listed(roots)}")
    children = {parts[1] for module in modules if len(parts := _parts(module)) > 1}
    stems = {child: re.sub(r"_[1-9]\d*$", "", child) for child in children}
    # Numbered modules are taken for blocks only if no name contains "block", so that no stray linear_1 misleads.
    blocks = {stem for stem in stems.values() if "block" in stem.lower()}
    blocks = blocks or {stem for child, stem in stems.items() if stem != child}
    if len(blocks) != 1:
        raise InputError(f"load_haiku: {roots[0]} must have blocks of one name, not {_listed(sorted(blocks))}")
    return _Naming(roots[0], blocks.pop())


def _parts(module: str) -> list[str]:
    """The names along the path `module`, from the root down."""
    return [part for part in module.split("/") if part != "~"]


def _listed(names: list[str]) -> str:
    """At most three of `names`."""
    return (", ".join(names[:3]) or "none") + (f" (and {len(names) - 3} more)" if len(names) > 3 else "")


def _block_number(module: str, block: str) -> int | None:
    """0 for `block`, N for `block_N`; None for other modules."""
    match = re.fullmatch(re.escape(block) + r"(?:_([1-9]\d*))?", module)
    return None if match is None else int(match[1] or 0)


def _slots(model: nn.Module, with_state: bool) -> Iterator[_Slot]:
    """The tensors of `model` to fill: all parameters and, `with_state`, the averages of BatchNorm."""
    first_block = [0]
    for stage in getattr(model, "stages", ()):
        first_block.append(first_block[-1] + len(stage))
    for module_name, owner in model.named_modules():
        prefix: Place = ()
        inside = module_name
        if match := re.fullmatch(r"stages\.(\d+)\.(\d+)(?:\.(.*))?", module_name):
            prefix = (first_block[int(match[1])] + int(match[2]),)
            inside = match[3] or ""
        for pattern, theirs in _MODULES:
            inside = re.sub(pattern, theirs, inside)
        path: Place = (*prefix, *(inside.split(".") if inside else ()))
        dot = "." if module_name else ""
        for name, tensor in owner.named_parameters(recurse=False):
            yield _Slot(f"{module_name}{dot}{name}", tensor, owner, (*path, _parameter_name(owner, name)))
        if with_state and isinstance(owner, _BatchNorm):
            for name, average in _AVERAGES.items():
                tensor = getattr(owner, name)
                if tensor is not None:
                    yield _Slot(f"{module_name}{dot}{name}", tensor, owner, (*path, average, "average"))


def _parameter_name(owner: nn.Module, name: str) -> str:
    """The authors' name for parameter `name` of `owner`."""
    if isinstance(owner, _BatchNorm | nn.GroupNorm):
        return {"weight": "scale", "bias": "offset"}[name]
    if isinstance(owner, ScaledWSConv2d):
        return {"weight": "w"}.get(name, name)
    if isinstance(owner, nn.Conv2d | nn.Linear):
        return {"weight": "w", "bias": "b"}[name]
    return _SCALARS.get(name, name)


def _misfit(entry: _Entry, slot: _Slot) -> str | None:
    """The reason why `entry` does not fill `slot`, if any, by shape and type alone: no stored array is unpacked."""
    value = entry.value if hasattr(entry.value, "dtype") else _as_array(entry.value)
    if value is None or not (value.dtype.kind == "f" or value.dtype.name.startswith(("bfloat", "float"))):
        return "not an array of floating-point numbers" + ("" if value is None else f", but of {value.dtype}")
    shape = _our_shape(tuple(value.shape), slot.owner)
    if shape != tuple(slot.tensor.shape):
        return f"shape {list(value.shape)} does not fit {slot.name} {list(slot.tensor.shape)}"
    return None


def _as_array(value: Any) -> Array | None:
    """A number or nested lists of numbers as an array; None for anything else."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError):
        return None


def _our_shape(shape: tuple[int, ...], owner: nn.Module) -> tuple[int, ...]:
    """The shape in our layout of an array whose shape in the authors' layout is `shape`."""
    # A broadcast array takes no memory, whatever its shape.
    return _to_our_layout(np.broadcast_to(np.float32(0), shape), owner).shape


def _to_our_layout(value: Array, owner: nn.Module) -> Array:
    """Maps [H, W, I, O] to [O, I, H, W], [I, O] to [O, I] and [1, 1, 1, C] to [C]; other shapes are unchanged."""
    if isinstance(owner, nn.Conv2d) and value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    if isinstance(owner, nn.Linear) and value.ndim == 2:
        return value.T
    if isinstance(owner, _BatchNorm | nn.GroupNorm) and value.ndim and value.size == value.shape[-1]:
        return value.reshape(-1)
    return value
