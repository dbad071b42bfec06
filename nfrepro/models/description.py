"""Description of networks for the theory of signal propagation: `describe` for `nfrepro.signal.predict`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from nfrepro.errors import InputError
from nfrepro.models import nf_resnet, nfnet, regnet, resnet
from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.convolutions import CUT_VARIANCE, FLOOR, Standardization
from nfrepro.models.efficientnet_options import EfficientNetOptions
from nfrepro.models.fully_connected_options import FullyConnectedOptions
from nfrepro.models.nfnet_options import VARIANTS as NFNET_VARIANTS
from nfrepro.models.nfnet_options import NFNetOptions
from nfrepro.models.options import (
    BNResNetOptions,
    FixUpResNetOptions,
    NFResNetOptions,
    ResNetOptions,
    SkipInitResNetOptions,
)
from nfrepro.models.preactivation_resnet import INIT_SCALE
from nfrepro.models.regnet_options import VARIANTS as REGNET_VARIANTS
from nfrepro.models.regnet_options import BNRegNetOptions, NFRegNetOptions, RegNetOptions
from nfrepro.options import Options
from nfrepro.signal import expected_variance
from nfrepro.signal.moment_maps import POINT, Window
from nfrepro.signal.prediction import (
    BlockDescription,
    Convolution,
    NetworkDescription,
    Normalization,
    SqueezeExcite,
    Stem,
)


def describe(options: Options, *, in_channels: int = 3, pixels: int | None = None) -> NetworkDescription:
    """The network of checked `options` as the theory sees it, SkipInit's scalars where they begin.

    Images have `pixels` in height and width: zero padding takes its share of every convolution near their border.
    Without `pixels` images have no end.

    Raises `InputError` for what no theory here predicts: post-activation with a branch (`order: v1`), activations that
    are not elementwise, EfficientNets. `why_inexact` names what it predicts approximately, too.
    """
    for reason in _REASONS:
        if not reason.predictable and reason.applies(options):
            raise InputError(f"no prediction of signal propagation: {reason.text}")
    family = getattr(options, "name", None)
    if family not in _DESCRIPTIONS:
        raise InputError(f"no prediction of signal propagation for {type(options).__name__}")
    if in_channels < 1 or (pixels is not None and pixels < 1):
        raise InputError(f"in_channels and pixels must be at least 1, not {in_channels} and {pixels}")
    return replace(_DESCRIPTIONS[family](options, in_channels), pixels=pixels)


def why_inexact(options: Options) -> list[str]:
    """Why a network departs from its prediction even at great width; empty: it does not, for white noise as input.

    Each reason names its switch. `describe` refuses what cannot be predicted at all.
    """
    return [reason.text for reason in _REASONS if reason.applies(options)]


@dataclass(frozen=True)
class _Reason:
    """A switch that the theory follows approximately or, unless `predictable`, not at all."""

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


@dataclass(frozen=True)
class _Layer:
    """Shape of a convolution."""

    fan_in: int
    window: Window = POINT


# Makes the convolution of a shape: what the weights of a family are.
_Kind = Callable[[_Layer], Convolution]


def standardized_scale(how: Standardization, fan_in: int) -> float:
    """Fan-in times the mean square of a standardized weight at initialisation: 1 if scaled, but for epsilon."""
    # Weights begin with variance 1 / fan_in; their own mean takes one part in fan_in away.
    population = (fan_in - 1) / fan_in**2
    estimate = population if how.variance == "population" else 1.0 / fan_in
    inverse_square = {
        "floor": 1.0 / max(estimate * fan_in, FLOOR),
        "sum": 1.0 / (estimate * fan_in + 1e-4),
        "timm": 1.0 / ((estimate + 1e-5) * fan_in),
    }[how.epsilon]
    return fan_in * population * inverse_square * (1 if how.scaled else fan_in)


def _plain(scale: float) -> _Kind:
    return lambda layer: Convolution(scale, window=layer.window)


def _standardized(how: Standardization, gain: float = 1.0) -> _Kind:
    return lambda layer: Convolution(gain**2 * standardized_scale(how, layer.fan_in), True, layer.window)


def _stem(options: ResNetOptions, kind: _Kind, in_channels: int) -> Stem:
    shape = resnet.STEMS[options.stem]
    window = Window(shape.kernel_size, shape.stride, options.padding)
    convolution = kind(_Layer(in_channels * shape.kernel_size**2, window))
    return Stem((convolution,), shape.max_pool, pool=Window(3, 2, options.padding))


def _bottlenecks(options: ResNetOptions, kind: _Kind) -> Iterator[BlockDescription]:
    """The blocks of a ResNet, with neither alpha nor beta."""
    for shape in (shape for stage in resnet.block_shapes(options) for shape in stage):
        width = shape.bottleneck
        branch = (
            kind(_Layer(shape.in_channels)),
            kind(_Layer(9 * width, Window(3, shape.stride, options.padding))),
            kind(_Layer(width)),
        )
        shortcut = kind(_Layer(shape.in_channels, Window(1, shape.stride))) if shape.has_projection else None
        yield BlockDescription(shape.stage + 1, shape.index == 0, branch, shortcut)


def _with_pooling_shortcut(block: BlockDescription) -> BlockDescription:
    """The stride of the shortcut as an average pool."""
    if block.shortcut is None or block.shortcut.window.stride == 1:
        return block
    return replace(block, shortcut=replace(block.shortcut, window=POINT), shortcut_pools=True)


def _preactivation(
    kind: _Kind, normalization: Normalization, options: ResNetOptions, in_channels: int
) -> NetworkDescription:
    return NetworkDescription(
        activation=ACTIVATIONS[options.activation].function,
        stem=_stem(options, kind, in_channels),
        blocks=tuple(_bottlenecks(options, kind)),
        normalization=normalization,
    )


def _bn_resnet(options: BNResNetOptions, in_channels: int) -> NetworkDescription:
    order: dict[str, Normalization] = {
        "bn_relu_conv": "batch_before_activation",
        "relu_bn_conv": "batch_after_activation",
    }
    kind = _plain(INIT_SCALE[options.conv_init] or CUT_VARIANCE)
    return _preactivation(kind, order[options.order], options, in_channels)


def _skipinit_resnet(options: SkipInitResNetOptions, in_channels: int) -> NetworkDescription:
    return _preactivation(_plain(CUT_VARIANCE), "none", options, in_channels).with_skip_gain(0.0)


def _nf_resnet(options: NFResNetOptions, in_channels: int) -> NetworkDescription:
    gamma_after_activation, gamma_in_weight = nf_resnet.gammas(options)
    how = Standardization(options.convolution == "scaled_ws", options.ws_epsilon, options.ws_variance)
    kind, kind_of_stem = _standardized(how), _standardized(how, gamma_in_weight)
    if options.convolution == "he":
        kind = kind_of_stem = _plain(ACTIVATIONS[options.activation].he_scale)
    stem, blocks = _stem(options, kind_of_stem, in_channels), _bottlenecks(options, kind)
    if options.shortcut == "average_pool":
        blocks = map(_with_pooling_shortcut, blocks)
    ledger = expected_variance(options.blocks, options.alpha, reset=options.beta != "no_reset")
    scales = [scale for stage in ledger for scale in stage]
    after = {"none": None, "middle": 1, "end": 2}[options.squeeze_excite]
    return NetworkDescription(
        activation=ACTIVATIONS[options.activation].function,
        gamma=gamma_after_activation * gamma_in_weight,
        stem=stem,
        blocks=tuple(
            replace(
                block.with_beta(1.0 if options.beta == "off" else scale.beta, options.beta_at),
                alpha=options.alpha,
                skip_gain=_skip_gain(options),
                squeeze_excite=None if after is None else SqueezeExcite(after, options.squeeze_excite_gain),
            )
            for block, scale in zip(blocks, scales, strict=True)
        ),
        shortcut_input=options.shortcut_input,
    )


def _fixup_resnet(options: FixUpResNetOptions, in_channels: int) -> NetworkDescription:
    """Weights of blocks are scaled by the width that comes out, and the last of each branch are 0."""
    stem = _stem(options, _plain(CUT_VARIANCE), in_channels)
    blocks = tuple(
        BlockDescription(
            stage=shape.stage + 1,
            transition=shape.index == 0,
            branch=(Convolution(0.0, window=Window(1, shape.stride)),),
            shortcut=Convolution(2.0 * shape.in_channels / shape.out_channels, window=Window(1, shape.stride))
            if shape.has_projection
            else None,
        )
        for stage in resnet.block_shapes(options)
        for shape in stage
    )
    return NetworkDescription(
        activation=ACTIVATIONS[options.activation].function,
        stem=replace(stem, activated=True),
        blocks=blocks,
        post_activation=True,
    )


def _nf_regnet(options: NFRegNetOptions, in_channels: int) -> NetworkDescription:
    activation, how = ACTIVATIONS[options.activation], regnet.standardization(options)
    gamma_in_weight = activation.gammas(options.gamma, options.gamma_at)[1]
    ledger = expected_variance(REGNET_VARIANTS[options.variant].depths, options.alpha)
    scales = [scale for stage in ledger for scale in stage]
    stem, blocks = _regnet(options, _standardized(how), in_channels)
    first = _standardized(how, gamma_in_weight)(_Layer(9 * in_channels, Window(3, 2, options.padding)))
    return NetworkDescription(
        activation=activation.function,
        gamma=activation.gamma(options.gamma),
        stem=replace(stem, convolutions=(first,)),
        blocks=tuple(
            replace(
                block.with_beta(scale.beta, options.beta_at),
                alpha=options.alpha,
                skip_gain=_skip_gain(options),
                squeeze_excite=SqueezeExcite(after=1, gain=options.squeeze_excite_gain),
            )
            for block, scale in zip(blocks, scales, strict=True)
        ),
    )


def _bn_regnet(options: BNRegNetOptions, in_channels: int) -> NetworkDescription:
    stem, blocks = _regnet(options, _plain(1.0), in_channels)
    return NetworkDescription(
        activation=ACTIVATIONS[options.activation].function,
        stem=stem,
        # Squeeze-excite precedes a norm, which takes any factor out.
        blocks=tuple(blocks),
        normalization="batch_before_activation",
    )


def _regnet(options: RegNetOptions, kind: _Kind, in_channels: int) -> tuple[Stem, list[BlockDescription]]:
    stem = Stem((kind(_Layer(9 * in_channels, Window(3, 2, options.padding))),))
    blocks = []
    for stage, shapes in enumerate(regnet.block_shapes(options), start=1):
        for index, shape in enumerate(shapes):
            branch = (
                kind(_Layer(shape.in_channels)),
                kind(_Layer(9 * options.group_width, Window(3, shape.stride, options.padding))),
                kind(_Layer(shape.inner_channels)),
            )
            transition = shape.stride > 1
            shortcut = kind(_Layer(shape.in_channels)) if transition else None
            blocks.append(BlockDescription(stage, index == 0, branch, shortcut, shortcut_pools=transition))
    return stem, blocks


def _nfnet(options: NFNetOptions, in_channels: int) -> NetworkDescription:
    activation, how = ACTIVATIONS[options.activation], nfnet.standardization(options)
    kind, gamma_in_weight = _standardized(how), activation.gammas(options.gamma, options.gamma_at)[1]
    stem: list[Convolution] = []
    for channels, stride in zip((in_channels, *nfnet.STEM_WIDTHS[:-1]), (2, 1, 1, 2), strict=True):
        of_stem = kind if stem else _standardized(how, gamma_in_weight)
        stem.append(of_stem(_Layer(9 * channels, Window(3, stride, options.padding))))
    ledger = expected_variance(NFNET_VARIANTS[options.variant].depths, options.alpha)
    blocks = []
    for shapes, scales in zip(nfnet.block_shapes(options), ledger, strict=True):
        for shape, scale in zip(shapes, scales, strict=True):
            grouped = 9 * options.group_width
            branch = (
                kind(_Layer(shape.in_channels)),
                kind(_Layer(grouped, Window(3, shape.stride, options.padding))),
                kind(_Layer(grouped, Window(3, 1, options.padding))),
                kind(_Layer(shape.inner_channels)),
            )
            blocks.append(
                BlockDescription(
                    stage=scale.stage + 1,
                    transition=scale.transition,
                    branch=branch,
                    shortcut=kind(_Layer(shape.in_channels)) if shape.has_projection else None,
                    shortcut_pools=shape.stride > 1,
                    alpha=options.alpha,
                    skip_gain=_skip_gain(options),
                    squeeze_excite=SqueezeExcite(after=3, gain=options.squeeze_excite_gain),
                ).with_beta(scale.beta, options.beta_at)
            )
    return NetworkDescription(
        activation=activation.function,
        gamma=activation.gamma(options.gamma),
        stem=Stem(tuple(stem)),
        blocks=tuple(blocks),
    )


def _skip_gain(options: NFResNetOptions | NFRegNetOptions | NFNetOptions) -> float:
    return 1.0 if options.skipinit_gain is None else options.skipinit_gain


# Family name -> its description.
_DESCRIPTIONS: dict[str, Callable[[Any, int], NetworkDescription]] = {
    "nf_resnet": _nf_resnet,
    "bn_resnet": _bn_resnet,
    "gn_ws_resnet": partial(_preactivation, _standardized(Standardization(scaled=False)), "group_before_activation"),
    "unnormalized_resnet": partial(_preactivation, _plain(2.0), "none"),
    "skipinit_resnet": _skipinit_resnet,
    "fixup_resnet": _fixup_resnet,
    "nf_regnet": _nf_regnet,
    "bn_regnet": _bn_regnet,
    "nfnet": _nfnet,
}
