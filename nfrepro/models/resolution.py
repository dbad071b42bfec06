"""The size of the images that a network is trained and tested on. No torch."""

from collections.abc import Mapping
from typing import Any

from nfrepro.models import efficientnet_options, nfnet_options, regnet_options
from nfrepro.models.fully_connected_options import FullyConnectedOptions
from nfrepro.models.options import split_name

# Of the networks without a table of variants (code: experiment.py).
DEFAULT_PIXELS = 224
# Family -> variant -> its sizes.
VARIANTS: dict[str, Mapping[Any, Any]] = {
    "nf_regnet": regnet_options.VARIANTS,
    "bn_regnet": regnet_options.VARIANTS,
    "nfnet": nfnet_options.VARIANTS,
    "efficientnet": efficientnet_options.VARIANTS,
}


def test_pixels(name: str, options: Mapping[str, Any]) -> int:
    """Height and width of the test images of the network `name` with `options`: its variant's or its own, else 224."""
    family, implied = split_name(name)
    if family == "fully_connected":
        return int(options.get("pixels", FullyConnectedOptions.model_fields["pixels"].default))
    variant = _variant(family, {**implied, **options})
    return DEFAULT_PIXELS if variant is None else int(variant.test_pixels)


def train_pixels(name: str, options: Mapping[str, Any]) -> int:
    """The same of the images that it is trained on."""
    family, implied = split_name(name)
    variant = _variant(family, {**implied, **options})
    return test_pixels(name, options) if variant is None else int(variant.train_pixels)


def _variant(family: str, options: Mapping[str, Any]) -> Any:
    """None for a family without a table of variants."""
    return VARIANTS.get(family, {}).get(options.get("variant"))
