"""Networks by name: those of this package, of libraries, and users' own."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from nfrepro.errors import InputError, did_you_mean
from nfrepro.models.efficientnet import EfficientNet
from nfrepro.models.fully_connected import FullyConnected
from nfrepro.models.nf_resnet import NFResNet
from nfrepro.models.nfnet import NFNet
from nfrepro.models.options import FAMILIES, split_name
from nfrepro.models.own_options import LIBRARIES, MAKER, OwnNetworkOptions
from nfrepro.models.postactivation_resnet import BNResNetV1, FixUpResNet
from nfrepro.models.preactivation_resnet import bn_resnet, gn_ws_resnet, skipinit_resnet, unnormalized_resnet
from nfrepro.models.regnet import BNRegNet, NFRegNet
from nfrepro.options import Options
from nfrepro.plugins.loading import load, takes
from nfrepro.plugins.names import OURS, OWN, is_name

# Family name -> builder of (options, num_classes, in_channels).
BUILDERS: dict[str, Callable[[Any, int, int], nn.Module]] = {
    "nf_resnet": NFResNet,
    "bn_resnet": lambda options, *shape: (BNResNetV1 if options.order == "v1" else bn_resnet)(options, *shape),
    "gn_ws_resnet": gn_ws_resnet,
    "unnormalized_resnet": unnormalized_resnet,
    "skipinit_resnet": skipinit_resnet,
    "fixup_resnet": FixUpResNet,
    "nf_regnet": NFRegNet,
    "bn_regnet": BNRegNet,
    "nfnet": NFNet,
    "efficientnet": EfficientNet,
    "fully_connected": FullyConnected,
}


def create(name: str, *, num_classes: int = 1000, in_channels: int = 3, **options: Any) -> nn.Module:
    """Creates the network `name`.

    `name` is a family (`nf_resnet`), a family with depth or variant (`nf_resnet50`, `nf_regnet_b0`), or a network from
    elsewhere (`timm:convnext_atto`, `my_pkg.nets:make`). Weights are drawn from torch's global generator. Raises
    `ValueError` for an unknown name or option, naming the nearest.
    """
    return build(parse_options(name, options), num_classes, in_channels)


def parse_options(name: str, options: Mapping[str, Any]) -> Options:
    """The checked options of the network `name`. Raises `ValueError` as `create` does."""
    if is_name(name):
        return _own_options(name, options)
    family, implied = split_name(name)
    if family not in FAMILIES:
        hint = did_you_mean(family, FAMILIES) or ";"
        raise InputError(f"unknown model {name!r}{hint} known families are {', '.join(FAMILIES)}")
    schema = FAMILIES[family]
    for option in options:
        if option not in schema.model_fields:
            raise InputError(f"{name}: unknown option {option!r}{did_you_mean(option, schema.model_fields)}")
    try:
        return schema.model_validate({"name": family, **implied, **options})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in (OURS, OWN))
        raise InputError(f"{name}: {where + ': ' if where else ''}{first['msg']}") from None


def _own_options(name: str, options: Mapping[str, Any]) -> OwnNetworkOptions:
    try:
        return OwnNetworkOptions(name=name, options=dict(options))
    except ValidationError as error:
        raise InputError(str(error.errors()[0]["ctx"]["error"])) from None


def build(options: Options, num_classes: int, in_channels: int) -> nn.Module:
    """The network that checked `options` describe."""
    if num_classes < 1 or in_channels < 1:
        raise InputError(f"num_classes and in_channels must be at least 1, not {num_classes} and {in_channels}")
    if isinstance(options, OwnNetworkOptions):
        return make_own_network(options, num_classes, in_channels)
    return BUILDERS[options.name](options, num_classes, in_channels)  # type: ignore[attr-defined]


def make_own_network(options: OwnNetworkOptions, num_classes: int, in_channels: int) -> nn.Module:
    """Makes the network for images [N, in_channels, H, W].

    Raises `InputError` if it cannot be imported or made; errors of own code while making it are passed on.
    """
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
            raise  # an error in user code: its traceback tells more than one line
        raise InputError(f"{options.name}: {error}") from None
    if not isinstance(network, nn.Module):
        raise InputError(f"{options.name}: returned {type(network).__name__}, not an nn.Module")
    return network


def try_maker(options: OwnNetworkOptions) -> None:
    """Raises `InputError` if the network cannot be made.

    Library networks are made on the meta device, since their makers' signatures do not tell their options.
    """
    if options.name.partition(":")[0] not in LIBRARIES:
        maker_of(options)
        return
    with torch.device("meta"):
        make_own_network(options, 2, 3)


def maker_of(options: OwnNetworkOptions) -> Callable[..., Any]:
    """The callable that makes the network. Raises `InputError` if it cannot be imported or refuses the options."""
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
