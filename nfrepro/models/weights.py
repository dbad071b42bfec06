"""Weight files of networks: read in any of three naming schemes, checked, and written in our own format.

A file names its tensors as the authors do (npz, `haiku.py`), as timm does (`timm_weights.py`) or as our networks do.
Files written here also describe their network. No file is trusted: nothing in it is executed.
"""

import hashlib
import io
import json
import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from nfrepro import atomic
from nfrepro.errors import InputError, first_three
from nfrepro.models.haiku import Tree, load_haiku
from nfrepro.models.npz import stored_trees
from nfrepro.models.options import FAMILIES, split_name
from nfrepro.models.registry import create
from nfrepro.models.timm_weights import load_timm, timm_switches
from nfrepro.models.weight_files import is_pickled, require_bounded_archive, require_regular_file

Naming = Literal["authors", "timm", "nfrepro"]

FORMAT_VERSION = 1
# Networks of up to this many numbers (1 GiB) are made without checking that the file can fill them.
_SMALL_NETWORK = 2**28
# The key of the description in a .pt file and in safetensors metadata.
DESCRIPTION = "nfrepro"
RESAVE = "re-save it as in docs/weights.md, if you trust it"

# Names of the classifier and the first convolution in each naming scheme; for the authors', of modules below the root.
_CLASSIFIERS: dict[Naming, str] = {"nfrepro": "linear.weight", "timm": "head.fc.weight"}
_FIRST_CONVOLUTIONS = ("initial_conv.weight", "stem.conv.weight", "stem.conv1.weight")
_HAIKU_CLASSIFIERS = (("linear",),)
_HAIKU_FIRST_CONVOLUTIONS = (("initial_conv",), ("stem_conv0",))


@dataclass(frozen=True)
class Description:
    """The description, in one of our own files, of the network that its tensors fill."""

    model: str
    options: dict[str, Any]  # all of them, so that defaults do not matter
    num_classes: int
    in_channels: int
    source_naming: Naming | Literal["own"]
    source_sha256: str
    format_version: int = FORMAT_VERSION


# Types of these fields as stored, to check files that others may have written.
_FIELDS = {
    "model": str,
    "options": dict,
    "num_classes": int,
    "in_channels": int,
    "source_naming": str,
    "source_sha256": str,
    "format_version": int,
}


@dataclass(frozen=True, eq=False)
class Weights:
    """The content of a file: `params` and `state` in the authors' naming, else `tensors`."""

    path: Path
    naming: Naming
    sha256: str
    num_classes: int
    in_channels: int
    tensors: Mapping[str, Tensor]
    params: Tree
    state: Tree
    description: Description | None = None


def read_weights(path: Path) -> Weights:
    """Reads .npz, .safetensors, .pt or .pth. Raises InputError for a file that is none of these, or is damaged."""
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise InputError(f"{path}: unknown type {path.suffix!r}: weights are read from {', '.join(_READERS)}")
    require_regular_file(path)
    with _one_line_errors(path):
        return reader(path, _sha256(path))


def read_state_dict(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors, under any names, of a .safetensors, .pt or .pth file, and its SHA-256. Raises as `read_weights`."""
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise InputError(f"{path}: unknown type {path.suffix!r}: a state dict is read from .safetensors, .pt or .pth")
    require_regular_file(path)
    with _one_line_errors(path):
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path), _sha256(path)
        require_bounded_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or not all(_is_plain_entry(*entry) for entry in content.items()):
        raise InputError(f"{path}: not a state dict of names and plain tensors: save only that")
    return content, _sha256(path)


def build_network(
    weights: Weights, name: str | None = None, options: Mapping[str, Any] | None = None
) -> tuple[nn.Module, Description]:
    """The network `name` with `options`, filled with `weights`, in float32 on the CPU, and its description.

    Our own files contain `name` and `options`. Raises InputError if these are given twice or not at all, if the file
    does not fill the network exactly (tensor by tensor), or if a number in it is not finite.
    """
    known = weights.description
    if known is None:
        if name is None:
            raise InputError(f"{weights.path}: does not name its network: give --model NAME")
        chosen = dict(options or {})
        if weights.naming == "timm":  # timm's dm_nfnet_f0 is our nfnet_f0
            chosen, name = {**timm_switches(name), **chosen}, name.removeprefix("dm_")
    elif name is not None or options:
        raise InputError(f"{weights.path}: names its network ({known.model}) and options: leave out --model and --set")
    else:
        name, chosen = known.model, known.options
    sizes = {"num_classes": weights.num_classes, "in_channels": weights.in_channels}
    try:
        _require_room(weights, name, {**chosen, **sizes})
        model = create(name, **sizes, **chosen)
        _LOADERS[weights.naming](model, weights)
    except InputError as error:
        raise InputError(f"{weights.path}: {error}") from None
    _require_finite(model, weights.path)
    return model, known or _describe(name, chosen, weights)


def load_own_network(
    path: Path, name: str, options: Mapping[str, Any], num_classes: int, in_channels: int
) -> tuple[nn.Module, str]:
    """The network `name`, of this package or not, filled with the state dict in `path`, and the file's SHA-256.

    The network is in float32 on the CPU; the file uses the network's own names. Raises `InputError` if the file does
    not fill the network exactly, or has a number that is not finite.
    """
    tensors, sha256 = read_state_dict(path)
    model = create(name, num_classes=num_classes, in_channels=in_channels, **options).float()
    try:
        load_own(model, tensors, f"{name} with {num_classes} classes")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    _require_finite(model, path)
    return model, sha256


def write_weights(path: Path, model: nn.Module, description: Description, replace: bool = False) -> None:
    """Writes all tensors of `model` with their description, as .safetensors or .pt according to the suffix of `path`.

    Raises InputError, with nothing written, for any other suffix, a missing folder, or, unless `replace`, a file that
    exists already.
    """
    check_output(path, replace)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    atomic.write_bytes(path, _WRITERS[path.suffix](tensors, description))


def check_output(path: Path, replace: bool = False) -> None:
    """Raise InputError if `write_weights` would, before the work is done."""
    if path.suffix not in _WRITERS:
        raise InputError(f"{path}: unknown type {path.suffix!r}: weights are written to {' or '.join(_WRITERS)}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: folder {path.parent} does not exist: create it first")
    if path.is_dir():
        raise InputError(f"{path}: is a folder: give the name of a file")
    if path.exists() and not replace:
        raise InputError(f"{path}: already exists: choose another name, or replace it with --force")


def load_own(model: nn.Module, tensors: Mapping[str, Tensor], network: str = "the network") -> None:
    """Copies `tensors`, which have the names of `model`, into it in place. Error messages call it `network`.

    Raises InputError, with `model` unchanged, for a tensor that is missing, left over, or of a different shape or kind.
    """
    slots = model.state_dict()
    if problems := _own_problems(slots, tensors):
        raise InputError(f"does not fit {network}: {first_three(problems)}")
    with torch.no_grad():
        for name, ours in slots.items():
            ours.copy_(tensors[name])


def _own_problems(slots: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    """The reasons why `tensors` do not fill `slots`."""
    problems = []
    for name, ours in slots.items():
        value = tensors.get(name)
        if value is None:
            problems.append(f"{name}: missing")
        elif value.shape != ours.shape:
            problems.append(f"{name}: shape {list(value.shape)} does not fit {list(ours.shape)}")
        elif value.is_floating_point() != ours.is_floating_point():
            problems.append(f"{name}: {_dtype(value)} does not fit {_dtype(ours)}")
    return problems + [f"{name}: the network has no place for it" for name in tensors if name not in slots]


def _require_room(weights: Weights, name: str, options: Mapping[str, Any]) -> None:
    """Raise InputError, before allocating memory, if a small file describes a huge network or has huge tensors."""
    blocks = options.get("blocks")
    if isinstance(blocks, list) and all(type(count) is int for count in blocks) and sum(blocks) > len(weights.tensors):
        raise InputError(f"does not fit the network: {sum(blocks):,} blocks, {len(weights.tensors):,} tensors")
    with torch.device("meta"):
        shapes = create(name, **options).state_dict()
    if weights.naming == "nfrepro" and (problems := _own_problems(shapes, weights.tensors)):
        raise InputError(f"does not fit the network: {first_three(problems)}")
    wanted, found = sum(math.prod(tensor.shape) for tensor in shapes.values()), _numbers_in(weights)
    if wanted > max(found, _SMALL_NETWORK):
        for key, tensor in weights.tensors.items():
            if tensor.numel() > (held := _storage_bytes(tensor)):
                raise InputError(f"{key}: {tensor.numel():,} numbers expanded from {held:,} bytes: save a copy of it")
        raise InputError(f"does not fit the network: it has {wanted:,} numbers, the file {found:,}")


def _numbers_in(weights: Weights) -> int:
    """The count of numbers that the file holds; an expanded tensor stores fewer numbers than its shape suggests."""
    arrays = [
        array for tree in (weights.params, weights.state) for module in tree.values() for array in module.values()
    ]
    held = [min(tensor.numel(), _storage_bytes(tensor)) for tensor in weights.tensors.values()]
    return sum(held) + sum(int(math.prod(array.shape)) for array in arrays)


def _storage_bytes(tensor: Tensor) -> int:
    return int(tensor.untyped_storage().nbytes())


def _read_npz(path: Path, sha256: str) -> Weights:
    require_bounded_archive(path)
    try:
        params, state = stored_trees(path)
    except InputError as error:
        if is_pickled(path):
            raise InputError(f"{path}: a pickle could execute code, so it is not read: {RESAVE}") from None
        raise error
    below_root = {tuple(part for part in module.split("/") if part != "~")[1:]: module for module in params}
    classes = _size(params, below_root, _HAIKU_CLASSIFIERS, ndim=2, axis=1)
    if classes is None:
        raise InputError(f"{path}: no <network>/linear/w, which would tell the number of classes")
    channels = _size(params, below_root, _HAIKU_FIRST_CONVOLUTIONS, ndim=4, axis=2)
    return Weights(path, "authors", sha256, classes, channels or 3, {}, params, state)


def _size(
    params: Tree, below_root: Mapping[tuple[str, ...], str], places: Sequence[tuple[str, ...]], ndim: int, axis: int
) -> int | None:
    """Length along `axis` of the first array `w` of `ndim` dimensions at one of `places`."""
    arrays = [params[below_root[place]]["w"] for place in places if "w" in params.get(below_root.get(place, ""), {})]
    return next((int(array.shape[axis]) for array in arrays if len(array.shape) == ndim), None)


def _read_safetensors(path: Path, sha256: str) -> Weights:
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    written = metadata.get(DESCRIPTION)
    try:
        description = None if written is None else json.loads(written)
    except ValueError:
        raise InputError(f"{path}: its description is not JSON: convert its source again") from None
    return _named(path, sha256, tensors, description)


def _read_pt(path: Path, sha256: str) -> Weights:
    require_bounded_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: holds something other than tensors, or is damaged: "
            "save only the state dict: torch.save(model.state_dict(), ...)"
        ) from None
    if isinstance(content, dict) and set(content) == {DESCRIPTION, "state_dict"}:
        return _named(path, sha256, content["state_dict"], content[DESCRIPTION])
    return _named(path, sha256, content, None)


def _named(path: Path, sha256: str, tensors: Any, description: Any) -> Weights:
    """The state dict `tensors`, in the naming scheme that the name of its classifier shows."""
    if not isinstance(tensors, dict) or not all(_is_plain_entry(*entry) for entry in tensors.items()):
        raise InputError(f"{path}: not a state dict of names and plain tensors: save only that")
    found = [naming for naming, name in _CLASSIFIERS.items() if name in tensors]
    if len(found) != 1:
        there = ", ".join(list(tensors)[:3]) or "nothing"
        wanted = " or ".join(_CLASSIFIERS.values())
        raise InputError(f"{path}: {'no' if not found else 'more than one of'} {wanted} among its tensors ({there}, …)")
    classifier = tensors[_CLASSIFIERS[found[0]]]
    if classifier.ndim < 2:
        raise InputError(f"{path}: {_CLASSIFIERS[found[0]]}: shape {list(classifier.shape)} is not a classifier's")
    channels = [tensors[name].shape[1] for name in _FIRST_CONVOLUTIONS if name in tensors and tensors[name].ndim == 4]
    known = None if description is None else _checked(description, path)
    classes, images = classifier.shape[0], channels[0] if channels else 3
    if known is not None:
        classes, images = known.num_classes, known.in_channels
    return Weights(path, found[0], sha256, classes, images, tensors, {}, {}, known)


def _is_plain_entry(name: Any, value: Any) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _checked(description: Any, path: Path) -> Description:
    """The description in a file, with the type of each field checked."""
    version = description.get("format_version") if isinstance(description, dict) else None
    if type(version) is int and version > FORMAT_VERSION:
        raise InputError(f"{path}: format {version} of a newer nfrepro; this one reads {FORMAT_VERSION}: update")
    if not isinstance(description, dict) or set(description) != set(_FIELDS):
        raise InputError(f"{path}: its description is not complete: convert its source again")
    for field, kind in _FIELDS.items():
        if type(description[field]) is not kind:
            raise InputError(f"{path}: its description has a bad {field}: convert its source again")
    if reserved := {"name", "num_classes", "in_channels"} & set(description["options"]):
        raise InputError(f"{path}: its description has {reserved.pop()} among the options: convert its source again")
    return Description(**description)


def _describe(name: str, chosen: Mapping[str, Any], weights: Weights) -> Description:
    family, implied = split_name(name)
    options = FAMILIES[family].model_validate({"name": family, **implied, **chosen}).model_dump(mode="json")
    del options["name"]
    return Description(
        name, options, weights.num_classes, weights.in_channels, weights.naming, source_sha256=weights.sha256
    )


def _to_safetensors(tensors: dict[str, Tensor], description: Description) -> bytes:
    return safetensors.torch.save(tensors, {DESCRIPTION: json.dumps(asdict(description), allow_nan=False)})


def _to_pt(tensors: dict[str, Tensor], description: Description) -> bytes:
    buffer = io.BytesIO()
    torch.save({DESCRIPTION: asdict(description), "state_dict": tensors}, buffer)
    return buffer.getvalue()


def _require_finite(model: nn.Module, path: Path) -> None:
    for name, tensor in model.state_dict().items():
        if bad := int((~tensor.isfinite()).sum()):
            raise InputError(f"{path}: {name}: {bad:,} of {tensor.numel():,} numbers are not finite: training failed")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    """Turns any error of a decoder for a damaged file, of any class and length, into an InputError of one line."""
    try:
        yield
    except (InputError, PermissionError):
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise InputError(f"{path}: cannot be read as {path.suffix}: {reason}") from None


_READERS: dict[str, Callable[[Path, str], Weights]] = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".pt": _read_pt,
    ".pth": _read_pt,
}
_LOADERS: dict[Naming, Callable[[nn.Module, Weights], None]] = {
    "authors": lambda model, weights: load_haiku(model, weights.params, weights.state),
    "timm": lambda model, weights: load_timm(model, weights.tensors),
    "nfrepro": lambda model, weights: load_own(model, weights.tensors),
}
_WRITERS: dict[str, Callable[[dict[str, Tensor], Description], bytes]] = {
    ".safetensors": _to_safetensors,
    ".pt": _to_pt,
}
