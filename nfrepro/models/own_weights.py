"""Weights of networks that are not of this package: a state dict by the network's own names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nfrepro.errors import InputError, first_three
from nfrepro.models.registry import create
from nfrepro.models.weights import read_state_dict


def load_own_network(
    path: Path, name: str, options: Mapping[str, Any], num_classes: int, in_channels: int
) -> tuple[nn.Module, str]:
    """The network `name`, in float32 on the CPU, filled with the state dict in `path`, and the SHA-256 of the file.

    Raises `InputError` where the file does not fill the network exactly, or has a number that is not finite.
    """
    tensors, sha256 = read_state_dict(path)
    model = create(name, num_classes=num_classes, in_channels=in_channels, **options).float()
    slots = model.state_dict()
    problems = [f"{slot}: missing" for slot in slots if slot not in tensors]
    problems += [f"{tensor}: the network has no place for it" for tensor in tensors if tensor not in slots]
    problems += [
        f"{slot}: {list(tensors[slot].shape)}, not {list(value.shape)}"
        for slot, value in slots.items()
        if slot in tensors and tensors[slot].shape != value.shape
    ]
    problems += [f"{slot}: not finite" for slot, value in tensors.items() if not torch.isfinite(value).all()]
    if problems:
        raise InputError(f"{path}: does not fit {name} with {num_classes} classes: {first_three(problems)}")
    model.load_state_dict(tensors)
    return model, sha256
