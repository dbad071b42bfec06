"""Networks by name."""

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from torch import nn

from nfrepro.errors import InputError, did_you_mean
from nfrepro.models.options import FAMILIES, ResNetOptions, split_name
from nfrepro.models.resnet import BNResNet, NFResNet

# Family name -> builder of (options, num_classes, in_channels).
BUILDERS: dict[str, Callable[[Any, int, int], nn.Module]] = {
    "nf_resnet": NFResNet,
    "bn_resnet": BNResNet,
}


def create(name: str, *, num_classes: int = 1000, in_channels: int = 3, **options: Any) -> nn.Module:
    """The network `name` (a family, say `nf_resnet`, or a family with its depth, `nf_resnet50`) with its `options`.

    Weights come from torch's global generator. Raises `ValueError` for an unknown name or option, naming the nearest.
    """
    family, depth = split_name(name)
    if family not in FAMILIES:
        raise InputError(
            f"unknown model {name!r}{did_you_mean(family, FAMILIES)} Known families: {', '.join(FAMILIES)}"
        )
    schema = FAMILIES[family]
    for option in options:
        if option not in schema.model_fields:
            raise InputError(f"{name}: unknown option {option!r}{did_you_mean(option, schema.model_fields)}")
    if depth is not None:
        options.setdefault("depth", depth)
    try:
        parsed = schema.model_validate({"name": family, **options})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{name}: {where + ': ' if where else ''}{first['msg']}") from None
    return build(parsed, num_classes, in_channels)


def build(options: ResNetOptions, num_classes: int, in_channels: int) -> nn.Module:
    """The network that checked `options` describe."""
    if num_classes < 1 or in_channels < 1:
        raise InputError(f"num_classes and in_channels must be at least 1, not {num_classes} and {in_channels}")
    return BUILDERS[options.name](options, num_classes, in_channels)  # type: ignore[attr-defined]
