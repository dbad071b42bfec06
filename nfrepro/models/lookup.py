"""Lookup of activations and networks named on the command line."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nfrepro.errors import InputError, did_you_mean
from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.own_options import LIBRARIES, OwnNetworkOptions
from nfrepro.models.registry import build, maker_of, parse_options
from nfrepro.options import Options
from nfrepro.plugins.loading import load_attribute, takes
from nfrepro.plugins.names import is_name, search_folders, search_in


@dataclass(frozen=True)
class NamedActivation:
    """An activation and, if it is in the authors' table, the gain that they published."""

    name: str
    function: Callable[[Tensor], Tensor]
    published_gain: float | None


def find_activation(text: str) -> NamedActivation:
    """Finds an activation by known name, `package.module:callable`, or `lambda` over torch, F (functional) and math.

    Raises `InputError` for anything else.
    """
    _search_here()
    if text in ACTIVATIONS:
        return NamedActivation(text, ACTIVATIONS[text].function, ACTIVATIONS[text].published_gain)
    if text.lstrip().startswith("lambda"):
        return NamedActivation(text, _evaluate_lambda(text), None)
    if ":" in text:
        return NamedActivation(text, load_attribute(text), None)
    hint = did_you_mean(text, ACTIVATIONS)
    raise InputError(
        f"unknown activation {text!r}{hint or ';'} use one of {', '.join(ACTIVATIONS)}, "
        "or package.module:callable, or 'lambda x: …'"
    )


def _evaluate_lambda(text: str) -> Callable[[Tensor], Tensor]:
    """Evaluates text that the user typed on the command line; text from elsewhere must never come here."""
    names = {"torch": torch, "F": torch.nn.functional, "math": math}
    try:
        found = eval(text, {"__builtins__": {}, **names})  # the user typed it
    except Exception as error:
        raise InputError(f"{text!r} is not a Python function: {error}") from None
    if not callable(found):
        raise InputError(f"{text!r} is not a Python function")
    return found  # type: ignore[no-any-return]


@dataclass(frozen=True)
class NamedNetwork:
    """A network that can be built repeatedly; `options` are set for our families, and None for other networks."""

    name: str
    make: Callable[[], nn.Module]
    options: Options | None


def find_network(text: str, settings: Mapping[str, Any], in_channels: int = 3) -> NamedNetwork:
    """Finds a network: ours (`nf_resnet50`), `torchvision:resnet50`, `timm:nf_resnet50` or `package.module:callable`.

    `settings` are options of our families, and of a callable with a parameter `num_classes` (docs/plugins.md); other
    callables are called without arguments. Raises `InputError` for a network that cannot be found.
    """
    _search_here()
    if not is_name(text):
        options = parse_options(text, dict(settings))
        return NamedNetwork(text, lambda: build(options, 1000, in_channels), options)
    if text.partition(":")[0] not in LIBRARIES:
        found = load_attribute(text)
        if not takes(found, "num_classes"):
            _refuse(text, settings)
            return NamedNetwork(text, found, None)
    else:
        _refuse(text, settings)
    own = parse_options(text, settings)
    assert isinstance(own, OwnNetworkOptions)
    maker_of(own)
    return NamedNetwork(text, lambda: build(own, 1000, in_channels), None)


def _refuse(text: str, settings: Mapping[str, Any]) -> None:
    if settings:
        raise InputError(f"{text}: model options can be set only for networks of nfrepro")


def _search_here() -> None:
    """Adds the current folder to the search: that is where a user's file usually is."""
    search_in([*search_folders(), Path.cwd()])
