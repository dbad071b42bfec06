"""Weights of timm's normalizer-free networks, copied into ours; our switches cover timm's differences."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nfrepro.errors import InputError, did_you_mean, first_three
from nfrepro.models.nf_resnet import NFResNet
from nfrepro.models.nfnet import NFNet
from nfrepro.models.regnet import NFRegNet

# `create("nf_resnet50", **TIMM_SWITCHES)` is timm's nf_resnet50: gamma in every standardized weight, epsilon added to
# the variance, pooled shortcuts, symmetric padding, no SkipInit scalar (the last gain of a branch starts at 0 instead).
TIMM_SWITCHES: dict[str, Any] = {
    "gamma_at": "weights",
    "ws_epsilon": "timm",
    "shortcut": "average_pool",
    "padding": "torch",
    "skipinit_gain": None,
}
# timm's networks drop nothing unless asked to; if they do, kept branches are rescaled, and the last block has the full
# rate, while ours has rate * (L - 1) / L.
_NO_DROPPING: dict[str, Any] = {"stochastic_depth": 0.0, "stochastic_depth_rescale": True, "dropout": 0.0}
# All widths in multiples of 8; the rest as in nf_resnet.
_REGNET_SWITCHES: dict[str, Any] = {
    "channel_multiple": 8,
    "gamma_at": "weights",
    "ws_epsilon": "timm",
    "padding": "torch",
    "skipinit_gain": None,
    **_NO_DROPPING,
}
# Made for the authors' weights, but with a different epsilon, and with exact GELU instead of JAX's tanh form.
_DM_NFNET_SWITCHES: dict[str, Any] = {"activation": "gelu_erf", "ws_epsilon": "timm", **_NO_DROPPING}
_NFNET_SWITCHES = {**_DM_NFNET_SWITCHES, "gamma_at": "weights", "padding": "torch", "skipinit_gain": None}

# timm's name -> the options that turn our network of the same name (without `dm_`) into timm's.
_SWITCHES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("nf_resnet26", "nf_resnet50", "nf_resnet101"), TIMM_SWITCHES),
    **dict.fromkeys((f"nf_regnet_b{size}" for size in range(6)), _REGNET_SWITCHES),
    **dict.fromkeys((f"dm_nfnet_f{size}" for size in range(3)), _DM_NFNET_SWITCHES),
    **dict.fromkeys((f"nfnet_f{size}" for size in range(3)), _NFNET_SWITCHES),
}

# Our name for a part of a network or block -> timm's, if the two differ.
_BLOCK_PARTS = {
    "conv0": "conv1",
    "conv1": "conv2",
    "conv1b": "conv2b",
    "conv2": "conv3",
    "conv_shortcut": "downsample.conv",
    "skip_gain": "skipinit_gain",
}
_PARTS: dict[type[nn.Module], dict[str, str]] = {
    NFResNet: {"initial_conv": "stem.conv", "linear": "head.fc", **_BLOCK_PARTS},
    NFRegNet: {
        "initial_conv": "stem.conv",
        "linear": "head.fc",
        "squeeze_excite.fc0": "attn.fc1",
        "squeeze_excite.fc1": "attn.fc2",
        **_BLOCK_PARTS,
    },
    NFNet: {
        "initial_conv": "stem.conv1",
        "stem_conv1": "stem.conv2",
        "stem_conv2": "stem.conv3",
        "stem_conv3": "stem.conv4",
        "linear": "head.fc",
        "squeeze_excite.fc0": "attn_last.fc1",
        "squeeze_excite.fc1": "attn_last.fc2",
        **_BLOCK_PARTS,
    },
}


def timm_switches(name: str) -> dict[str, Any]:
    """The options that make our network timm's `name`: `create("nf_regnet_b1", **timm_switches("nf_regnet_b1"))`.

    Ours has the same name, but timm's `dm_nfnet_f0` and, with other switches, its `nfnet_f0` are both our `nfnet_f0`.
    Raises `ValueError` for a name that is not timm's or not known here, naming the nearest.
    """
    if name not in _SWITCHES:
        raise InputError(f"no switches for timm's {name!r}{did_you_mean(name, _SWITCHES) or ';'} known: {_known()}")
    return dict(_SWITCHES[name])


def load_timm(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Copies timm's `state_dict` of an nf_resnet, nf_regnet or (dm_)nfnet into `model`, made with `timm_switches`.

    Raises `ValueError`, with `model` unchanged, for an entry that is missing, left over or of a different shape or
    kind, and for a network without a counterpart in timm.
    """
    if type(model) not in _PARTS:
        raise InputError(f"load_timm: timm has no counterpart of {type(model).__name__}; known: {_known()}")
    parts = _PARTS[type(model)]
    copies, problems, unread = [], [], dict(state_dict)
    for name, ours in model.state_dict().items():
        theirs = _timm_name(name, parts)
        value = unread.pop(theirs, None)
        if value is None:
            problems.append(f"{theirs}: missing, {name} needs it")
        elif not _fits(value, ours):
            problems.append(f"{theirs}: shape {list(value.shape)} does not fit {name} {list(ours.shape)}")
        elif value.is_floating_point() != ours.is_floating_point():
            kinds = [str(tensor.dtype).removeprefix("torch.") for tensor in (value, ours)]
            problems.append(f"{theirs}: {kinds[0]} does not fit {name} {kinds[1]}")
        else:
            copies.append((ours, value))
    problems += [f"{theirs}: the network has no place for it" for theirs in unread]
    if problems:
        raise InputError(f"load_timm: {first_three(problems)}")
    with torch.no_grad():
        for ours, value in copies:
            ours.copy_(value.view_as(ours))


def _timm_name(name: str, parts: Mapping[str, str]) -> str:
    """timm's name for our tensor `name`: `stages.0.1.conv0.gain` becomes `stages.0.1.conv1.gain`."""
    places = name.split(".")
    front = 3 if places[0] == "stages" else 0
    for end in range(len(places), front, -1):
        if (theirs := parts.get(".".join(places[front:end]))) is not None:
            return ".".join([*places[:front], theirs, *places[end:]])
    return name


def _fits(value: Tensor, ours: Tensor) -> bool:
    """Whether shapes are equal up to trailing ones, which timm has in gains [O, 1, 1, 1] and in squeeze-excite."""
    return value.shape[: ours.ndim] == ours.shape and value.numel() == ours.numel()


def _known() -> str:
    return ", ".join(_SWITCHES)
