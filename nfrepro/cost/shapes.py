"""Runs of the task `train`, grouped by the cost of a training step: the same network, images, batch and precision."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nfrepro.specs import Run, identity
from nfrepro.specs.varied import flatten, written_value

# Keys that change neither the time of a step nor its memory. All other keys together define the shape.
WITHOUT_COST = frozenset(
    {
        "seed",
        "probe",
        "data.train_images",
        "data.test_images",
        "data.data_seed",
        "data.crop_padding",
        "data.flip",
        "data.randaugment_magnitude",
        "data.mixup_alpha",
        "model.alpha",
        "model.beta",
        "model.gamma",
        "model.ws_epsilon",
        "model.ws_variance",
        "model.conv_init",
        "model.squeeze_excite_gain",
        "model.stochastic_depth",
        "model.stochastic_depth_rescale",
        "model.dropout",
        "train.epochs",
        "train.lr_per_256",
        "train.final_lr",
        "train.warmup_epochs",
        "train.weight_decay",
        "train.decay_norm_and_bias",
        "train.label_smoothing",
        "train.evaluate_every",
    }
)
# For these keys it only matters whether they are null.
NULL_OR_NOT = frozenset({"model.skipinit_gain", "train.clip_factor", "train.ema_decay"})


@dataclass(frozen=True)
class Shape:
    """Runs whose training steps cost the same."""

    key: str  # twelve hexadecimal digits
    label: str  # how it differs from the other shapes of the experiment
    options: dict[str, Any]  # the dotted keys that define it
    runs: tuple[Run, ...]


def find_shapes(runs: Sequence[Run]) -> list[Shape]:
    """The shapes of `runs`, in the order of their first runs."""
    options: dict[str, dict[str, Any]] = {}
    members: dict[str, list[Run]] = {}
    for run in runs:
        costly = _costly_options(run.config)
        key = identity(run.task, costly)
        options.setdefault(key, costly)
        members.setdefault(key, []).append(run)
    labels = _labels(options)
    return [Shape(key, labels[key], options[key], tuple(members[key])) for key in options]


def _costly_options(config: dict[str, Any]) -> dict[str, Any]:
    flat = flatten({name: value for name, value in config.items() if name not in WITHOUT_COST})
    return {
        key: (None if value is None else True) if key in NULL_OR_NOT else value
        for key, value in flat.items()
        if key not in WITHOUT_COST
    }


def _labels(shapes: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Labels by key: name and depth of the network, and the options that differ among shapes with the same of both."""
    alike: dict[str, list[dict[str, Any]]] = {}
    for options in shapes.values():
        alike.setdefault(_network(options), []).append(options)
    return {key: _label(options, alike[_network(options)]) for key, options in shapes.items()}


def _network(options: dict[str, Any]) -> str:
    variant = f"_{options['model.variant']}" if "model.variant" in options else ""
    return f"{options['model.name']}{options.get('model.depth', '')}{variant}"


def _label(options: dict[str, Any], alike: Sequence[dict[str, Any]]) -> str:
    different = [key for key, value in options.items() if any(other.get(key) != value for other in alike)]
    return " ".join([_network(options), *(f"{key}={written_value(options[key])}" for key in different)])
