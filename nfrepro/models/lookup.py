"""Lookup of an activation or a network that the command line names."""

import importlib
import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nfrepro.errors import InputError, did_you_mean
from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.registry import build, parse_options
from nfrepro.options import Options


@dataclass(frozen=True)
class NamedActivation:
    """An activation and, for those of the authors' table, the gain they published."""

    name: str
    function: Callable[[Tensor], Tensor]
    published_gain: float | None


def find_activation(text: str) -> NamedActivation:
    """A name of the authors' table, `package.module:callable`, or a `lambda` over torch, F (functional) and math.

    Raises `InputError` for anything else.
    """
    if text in ACTIVATIONS:
        return NamedActivation(text, ACTIVATIONS[text].function, ACTIVATIONS[text].published_gain)
    if text.lstrip().startswith("lambda"):
        return NamedActivation(text, _evaluate_lambda(text), None)
    if ":" in text:
        return NamedActivation(text, _import(text), None)
    hint = did_you_mean(text, ACTIVATIONS)
    raise InputError(
        f"unknown activation {text!r}{hint or ';'} give a name of {', '.join(ACTIVATIONS)}, "
        "or package.module:callable, or 'lambda x: …'"
    )


def _evaluate_lambda(text: str) -> Callable[[Tensor], Tensor]:
    """The user's own text, from the user's own command line: nothing else may come here."""
    names = {"torch": torch, "F": torch.nn.functional, "math": math}
    try:
        found = eval(text, {"__builtins__": {}, **names})  # the user typed it
    except Exception as error:
        raise InputError(f"{text!r} is no Python function: {error}") from None
    if not callable(found):
        raise InputError(f"{text!r} is no Python function")
    return found  # type: ignore[no-any-return]


@dataclass(frozen=True)
class NamedNetwork:
    """A network that can be built again and again; `options` are those of our families, None for other networks."""

    name: str
    make: Callable[[], nn.Module]
    options: Options | None


def find_network(text: str, settings: Mapping[str, Any], in_channels: int = 3) -> NamedNetwork:
    """One of ours (`nf_resnet50`), `torchvision:resnet50`, `timm:nf_resnet50` or `package.module:callable`.

    `settings` are options of our families. Raises `InputError` for what cannot be found.
    """
    origin, colon, name = text.partition(":")
    if not colon:
        options = parse_options(text, dict(settings))
        return NamedNetwork(text, lambda: build(options, 1000, in_channels), options)
    if settings:
        raise InputError(f"{text}: model options can be set for networks of nfrepro only")
    if origin in ("torchvision", "timm"):
        return NamedNetwork(text, _library_network(origin, name), None)
    return NamedNetwork(text, _import(text), None)


def _library_network(library: str, name: str) -> Callable[[], nn.Module]:
    try:
        module = importlib.import_module("torchvision.models" if library == "torchvision" else "timm")
    except ImportError:
        raise InputError(f"{library}:{name}: {library} is not installed: pip install {library}") from None
    known = module.list_models()
    if name not in known:
        raise InputError(f"{library} has no network {name!r}{did_you_mean(name, known)}")
    if library == "timm":
        return lambda: module.create_model(name, pretrained=False)
    return lambda: module.get_model(name, weights=None)


def _import(text: str) -> Callable[..., Any]:
    """`package.module:callable`."""
    module_name, _, attribute = text.partition(":")
    if os.getcwd() not in sys.path:  # a file in the current folder is the usual case
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module may raise anything while it is imported
        raise InputError(f"{text}: cannot be imported: {type(error).__name__}: {error}") from None
    if not callable(found):
        raise InputError(f"{text}: is not callable")
    return found
