"""Weights of timm's nf_resnet networks, copied into ours; what timm does otherwise is a set of our switches."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nfrepro.errors import InputError, first_three

# `create("nf_resnet50", **TIMM_SWITCHES)` is timm's nf_resnet50: gamma in every standardized weight, epsilon added to
# the variance, pooled shortcuts, symmetric padding, no SkipInit scalar (the last gain of a branch starts at 0 instead).
TIMM_SWITCHES: dict[str, Any] = {
    "gamma_at": "weights",
    "ws_epsilon": "timm",
    "shortcut": "average_pool",
    "padding": "torch",
    "skipinit_gain": None,
}

# Our part of a network or of a block -> timm's.
_PARTS = {
    "initial_conv": "stem.conv",
    "conv0": "conv1",
    "conv1": "conv2",
    "conv2": "conv3",
    "conv_shortcut": "downsample.conv",
    "linear": "head.fc",
}


def load_timm(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Copies timm's `state_dict` of nf_resnet26, 50 or 101 into `model` in place, which `TIMM_SWITCHES` made.

    Raises `ValueError`, with `model` unchanged, for an entry that is missing, left over or of another shape.
    """
    copies, problems, unread = [], [], dict(state_dict)
    for name, ours in model.state_dict().items():
        theirs = _timm_name(name)
        value = unread.pop(theirs, None)
        if value is None:
            problems.append(f"{theirs}: missing, {name} needs it")
        elif value.numel() != ours.numel() or value.squeeze().shape != ours.squeeze().shape:
            problems.append(f"{theirs}: shape {list(value.shape)} does not fit {name} {list(ours.shape)}")
        else:
            copies.append((ours, value))
    problems += [f"{theirs}: the network has no place for it" for theirs in unread]
    if problems:
        raise InputError(f"load_timm: {first_three(problems)}")
    with torch.no_grad():
        for ours, value in copies:
            ours.copy_(value.view_as(ours))


def _timm_name(name: str) -> str:
    """`stages.0.1.conv0.gain` is `stages.0.1.conv1.gain` there."""
    front, part, kind = name.rsplit(".", 2) if name.startswith("stages.") else ("", *name.rsplit(".", 1))
    return ".".join(filter(None, (front, _PARTS.get(part, part), kind)))
