"""Options that differ between the runs of a sweep whose names differ only in the hash at the end."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nfrepro.specs.expansion import Run


def flatten(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones; lists stay values."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{path}{name}"
        flat |= flatten(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return flat


def varied_options(runs: Sequence[Run]) -> dict[str, str]:
    """The options, by run id, that differ among runs with the same name before the hash: `model.order=conv_bn_relu`.

    A run shows all of them that it has, so that whole sweeps read alike; empty if names tell all runs apart.
    """
    flat = {run.id: flatten(run.config) for run in runs}
    alike: dict[str, list[dict[str, Any]]] = {}
    for name, options in flat.items():
        alike.setdefault(name.rpartition("-")[0], []).append(options)
    varied = list(dict.fromkeys(key for group in alike.values() for key in _differing(group)))
    return {
        name: " ".join(f"{key}={written_value(options[key])}" for key in varied if key in options)
        for name, options in flat.items()
    }


def varied_keys(runs: Sequence[Run]) -> list[str]:
    """The options, except the seed, that have more than one value among the runs that have them."""
    seen: dict[str, set[str]] = {}
    for run in runs:
        for key, value in flatten(run.config).items():
            seen.setdefault(key, set()).add(json.dumps(value))
    return [key for key, values in seen.items() if len(values) > 1 and key != "seed"]


def written_value(value: Any) -> str:
    """The value as on the command line: text without quotes, the rest as JSON without spaces."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _differing(group: Sequence[dict[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for options in group for key in options)
    return [key for key in keys if any(options.get(key) != group[0].get(key) for options in group)]
