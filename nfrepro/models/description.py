"""Networks as the theory of signal propagation sees them, for `nfrepro.signal.predict`, and where it is not exact."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from nfrepro.errors import InputError
from nfrepro.models.efficientnet_options import EfficientNetOptions
from nfrepro.models.fully_connected_options import FullyConnectedOptions
from nfrepro.models.network import Network
from nfrepro.models.nfnet_options import NFNetOptions
from nfrepro.models.options import FAMILIES, FixUpResNetOptions
from nfrepro.models.registry import build
from nfrepro.models.regnet_options import RegNetOptions
from nfrepro.options import Options
from nfrepro.signal.prediction import NetworkDescription


def describe(options: Options, *, in_channels: int = 3, pixels: int | None = None) -> NetworkDescription:
    """The network of checked `options` as the theory sees it, with SkipInit's scalars at their initial values.

    Images have a height and width of `pixels`, so zero padding affects convolutions near their border. Without
    `pixels`, images are infinite.

    Raises `InputError` for networks that the theory does not predict: post-activation with a branch (`order: v1`),
    activations that are not elementwise, EfficientNets, fully connected networks, networks from elsewhere.
    `why_inexact` also lists what is predicted only approximately.
    """
    for reason in _REASONS:
        if not reason.predictable and reason.applies(options):
            raise InputError(f"signal propagation cannot be predicted: {reason.text}")
    if getattr(options, "name", None) not in FAMILIES:
        raise InputError(f"signal propagation cannot be predicted for {type(options).__name__}")
    if in_channels < 1 or (pixels is not None and pixels < 1):
        raise InputError(f"in_channels and pixels must be at least 1, not {in_channels} and {pixels}")
    with torch.device("meta"):
        network = build(options, num_classes=1, in_channels=in_channels)
    assert isinstance(network, Network)
    return replace(network.describe(), pixels=pixels)


def why_inexact(options: Options) -> list[str]:
    """Reasons why a network departs from its prediction even at large width; empty if it does not, for white noise.

    Each reason names its switch. `describe` refuses networks that cannot be predicted at all.
    """
    return [reason.text for reason in _REASONS if reason.applies(options)]


@dataclass(frozen=True)
class _Reason:
    """A switch that the theory models only approximately or, unless `predictable`, not at all."""

    applies: Callable[[Options], bool]
    text: str
    predictable: bool = True


def _has_average_pool(options: Options) -> bool:
    return isinstance(options, RegNetOptions | NFNetOptions) or getattr(options, "shortcut", None) == "average_pool"


def _has_squeeze_excite(options: Options) -> bool:
    return isinstance(options, RegNetOptions | NFNetOptions) or getattr(options, "squeeze_excite", "none") != "none"


_NOT_MONOTONE = ("silu", "gelu", "gelu_erf")
_REASONS = (
    _Reason(
        lambda options: isinstance(options, EfficientNetOptions),
        "efficientnet: sums over the 9 or 25 inputs of a depthwise convolution are not Gaussian",
        predictable=False,
    ),
    _Reason(
        lambda options: isinstance(options, FullyConnectedOptions),
        "fully_connected: its statistics are over a few images of one pixel each",
        predictable=False,
    ),
    _Reason(
        lambda options: getattr(options, "order", None) == "v1",
        "order v1: sums of activated signals and Gaussian branches are not Gaussian",
        predictable=False,
    ),
    _Reason(
        lambda options: getattr(options, "activation", None) == "log_softmax",
        "activation log_softmax: it is not elementwise",
        predictable=False,
    ),
    _Reason(
        lambda options: getattr(options, "stochastic_depth", 0.0) > 0.0,
        "stochastic_depth: predicted for evaluation, when no branch is dropped",
    ),
    _Reason(
        _has_average_pool,
        "shortcut average_pool: neighbouring pixels are taken to be as unlike as distant ones; behind a max pool, and "
        "of real images, they are not",
    ),
    _Reason(
        _has_squeeze_excite,
        "squeeze_excite: its gates are predicted for images of many pixels, and they make channels unequal",
    ),
    _Reason(
        lambda options: isinstance(options, RegNetOptions | NFNetOptions) and options.group_width < 32,
        "group_width: a sum over few channels is not Gaussian, however wide the network",
    ),
    _Reason(
        lambda options: (
            isinstance(options, FixUpResNetOptions)
            and options.stem == "imagenet"
            and options.activation in _NOT_MONOTONE
        ),
        "activation before the max pool: predicted as if it grew monotonically",
    ),
)
