"""Networks that are not of this package, made by name."""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nfrepro.errors import InputError, did_you_mean
from nfrepro.models.own_options import LIBRARIES, MAKER, OwnNetworkOptions
from nfrepro.plugins.loading import load, takes


def make_own_network(options: OwnNetworkOptions, num_classes: int, in_channels: int) -> nn.Module:
    """The network, for images [N, in_channels, H, W]. Raises `InputError` for what cannot be imported or made."""
    maker, given = maker_of(options), {"num_classes": num_classes}
    library = options.name.partition(":")[0]
    if library == "timm":
        given["in_chans"] = in_channels
    elif library not in LIBRARIES and takes(maker, "in_channels"):
        given["in_channels"] = in_channels
    try:
        network = maker(**given, **options.options)
    except TypeError as error:
        if library not in LIBRARIES:
            raise  # its own mistake: the traceback is worth more than a line
        raise InputError(f"{options.name}: {error}") from None
    if not isinstance(network, nn.Module):
        raise InputError(f"{options.name}: returned {type(network).__name__}, not an nn.Module")
    return network


def try_maker(options: OwnNetworkOptions) -> None:
    """Raises `InputError` where the network cannot be made.

    Networks of libraries are made, without data: their makers' signatures do not tell their options.
    """
    if options.name.partition(":")[0] not in LIBRARIES:
        maker_of(options)
        return
    with torch.device("meta"):
        make_own_network(options, 2, 3)


def maker_of(options: OwnNetworkOptions) -> Callable[..., Any]:
    """The callable that makes the network. Raises `InputError` if it cannot be imported, or refuses the options."""
    library, _, name = options.name.partition(":")
    if library not in LIBRARIES:
        return load(options.name, options.options, MAKER)
    module = importlib.import_module("torchvision.models" if library == "torchvision" else "timm")
    known = module.list_models()
    if name.partition(".")[0] not in known:
        raise InputError(f"{options.name}: {library} has no network {name}{did_you_mean(name, known)}")
    if library == "timm":
        return lambda **given: module.create_model(name, pretrained=False, **given)
    return lambda **given: module.get_model(name, weights=None, **given)
