"""Options of every network family: schema, defaults and manual in one place. No torch.

A family is one class here and one builder in `registry.py`. Sources: "paper" is arXiv 2101.08692; "code" is the
authors' release (deepmind-research/nfnets).
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from nfrepro.models import efficientnet_options, nfnet_options, regnet_options
from nfrepro.models.activation_names import ActivationName
from nfrepro.models.efficientnet_options import EfficientNetOptions
from nfrepro.models.fully_connected_options import FullyConnectedOptions
from nfrepro.models.nfnet_options import NFNetOptions
from nfrepro.models.own_options import OwnNetworkOptions
from nfrepro.models.regnet_options import BNRegNetOptions, NFRegNetOptions
from nfrepro.options import Options, added
from nfrepro.plugins.names import OURS, OWN, origin_of

# Residual blocks in each stage, by depth (code: nf_resnet.py, variant_dict). 26 is not from the paper: it is a small
# bottleneck network with four stages, for laptops.
DEPTHS: dict[int, tuple[int, ...]] = {
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    288: (24, 24, 24, 24),
    600: (50, 50, 50, 50),
}


class ResNetOptions(Options):
    """Options of every ResNet of the paper: bottleneck blocks in stages of width 256, 512, 1024, 2048."""

    # Nominal number of layers; picks `blocks` from the table above.
    depth: int = Field(default=50, ge=1)
    # Residual blocks in each stage. Explicit blocks replace `depth`, which then follows from them.
    blocks: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False, min_length=1, max_length=6)]
    # Multiplier of all widths; 1.0 is the paper's 256, 512, 1024, 2048.
    width: float = Field(default=1.0, gt=0, le=8)
    # Nonlinearity g (paper section 4.3).
    activation: ActivationName = "relu"
    # imagenet: 7x7 stride 2 and 3x3 max pool stride 2 (code); small: 3x3 stride 1, for images of 28 to 32 pixels;
    # small_stride2: 3x3 stride 2, four times cheaper. The last two are ours: the paper trains on ImageNet only.
    stem: Literal["imagenet", "small", "small_stride2"] = "imagenet"
    # same: XLA's SAME padding, with one pixel more below and to the right if a stride of 2 meets an even size (code);
    # torch: symmetric.
    padding: Literal["same", "torch"] = "same"

    # Stochastic depth: block i of L, from 0, drops its branch with probability rate * i / L (code; 0.1 if regularised).
    stochastic_depth: float = Field(default=0.0, ge=0, lt=1)
    # Whether to divide kept branches by the keep probability: false in the code, true in torchvision and timm.
    stochastic_depth_rescale: bool = False
    # Dropout before the classifier. The paper's value for ResNets is not known.
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _depth_and_blocks_agree(cls, given: Any) -> Any:
        return _with_blocks(given) if isinstance(given, dict) else given

    @property
    def label(self) -> str:
        """Readable prefix of a run's name: family and depth."""
        return f"{getattr(self, 'name', 'resnet')}{self.depth}"


class NFResNetOptions(ResNetOptions):
    """NF-ResNet: x + alpha * f(x / beta) with Scaled Weight Standardization (paper section 4)."""

    name: Literal["nf_resnet"] = "nf_resnet"
    # Scale of the residual branch: variance grows by alpha^2 per block (paper section 4; 0.2 in all released models).
    alpha: float = Field(default=0.2, ge=0)
    # Divisor beta of a block's input: ledger, the expected standard deviation, reset to 1 at transition blocks (paper);
    # no_reset, the same without the reset; off, 1 everywhere. The last two are ablations.
    beta: Literal["ledger", "no_reset", "off"] = "ledger"
    # Initial value of a learnable scalar at the end of each branch; null: no scalar (SkipInit; 0 in the code).
    skipinit_gain: float | None = 0.0
    # scaled_ws: Scaled Weight Standardization (paper section 4.2); ws: without 1 / sqrt(N) and gamma; he: not
    # standardized, He initialisation (weight variance 1 / (fan-in E g(z)^2): 2 / fan-in for ReLU), no gamma (figure 2).
    convolution: Literal["scaled_ws", "ws", "he"] = "scaled_ws"
    # The constant that makes the activation preserve the variance: published (sampled by the authors), exact, or none,
    # which is 1 (an ablation).
    gamma: Literal["published", "exact", "none"] = "published"
    # activation: after every activation (code); weights: in every standardized weight, including the stem's, but not
    # after the last activation (the paper's equation; timm).
    gamma_at: Literal["activation", "weights"] = "activation"
    # Rule that keeps the deviation of a filter away from 0: floor (code), sum (the paper's listing), timm.
    ws_epsilon: Literal["floor", "sum", "timm"] = "floor"
    # Variance estimator of a filter: population divides by N (code), sample by N - 1 (the paper's listing).
    ws_variance: Literal["population", "sample"] = "population"
    # Shortcut of transition blocks: strided 1x1 convolution (code), or 2x2 average pool and 1x1 (timm; NF-RegNet).
    shortcut: Literal["strided_conv", "average_pool"] = "strided_conv"
    # Its input: the activated signal divided by beta, which resets the variance (paper), or raw x (an ablation).
    shortcut_input: Literal["activated", "raw"] = "activated"
    # Squeeze-excite: none (code's default), end of the branch (code), or middle, after the 3x3 convolution (as in
    # NF-RegNets); hidden width 1/4 of the block's.
    squeeze_excite: Literal["none", "end", "middle"] = "none"
    # Factor of the squeeze-excite gates: 2 preserves the variance (paper).
    squeeze_excite_gain: float = Field(default=2.0, gt=0)
    # Where the division by beta acts: on the activated signal, gamma g(x) / beta (code), or on the block's input,
    # f(x / beta) (the paper's formula). The two agree for ReLU-like activations but differ for SiLU, whose gamma holds
    # at unit variance only.
    beta_at: Literal["activation", "input"] = added("activation")
    # Initial weights of squeeze-excite, normal truncated at two deviations: lecun has variance 1 / fan-in (ours); haiku
    # has 0.774 / fan-in, the default of the code.
    squeeze_excite_init: Literal["lecun", "haiku"] = added("lecun")

    @property
    def label(self) -> str:
        return f"{super().label}-alpha{self.alpha:g}"


class BNResNetOptions(ResNetOptions):
    """BN-ResNet."""

    name: Literal["bn_resnet"] = "bn_resnet"
    # bn_relu_conv: version 2 blocks (code: resnet.py); relu_bn_conv: the order that NF-ResNets imitate (figure 1);
    # v1: post-activation, BatchNorm after each convolution.
    order: Literal["bn_relu_conv", "relu_bn_conv", "v1"] = "bn_relu_conv"
    # Initial weights, normal truncated at two deviations, by their variance times fan-in: lecun is 1; he is 2, the
    # value that figure 1 of the paper needs for bn_relu_conv (and lecun for relu_bn_conv); haiku is 0.774, the code's
    # default, from a deviation of 1 / sqrt(fan-in) before truncation. BatchNorm compensates for the scale in the
    # signal, not in the size of a step.
    conv_init: Literal["lecun", "he", "haiku"] = "lecun"


class GNWSResNetOptions(ResNetOptions):
    """ResNet version 2 with GroupNorm and Weight Standardization (arXiv 1903.10520)."""

    name: Literal["gn_ws_resnet"] = "gn_ws_resnet"
    # Groups of GroupNorm; every width must be divisible by it.
    norm_groups: int = Field(default=32, ge=1)


class UnnormalizedResNetOptions(ResNetOptions):
    """ResNet version 2 with nothing in place of BatchNorm: He initialisation, biases."""

    name: Literal["unnormalized_resnet"] = "unnormalized_resnet"


class SkipInitResNetOptions(ResNetOptions):
    """Unnormalized ResNet version 2 with a scalar, initially 0, at the end of each branch (arXiv 2002.10444; code)."""

    name: Literal["skipinit_resnet"] = "skipinit_resnet"
    # The version of the network. 2: equal to the code, with no bias in the stem's convolution and Haiku's
    # default initial weights. Runs of version 1, which differed in both, keep other ids.
    revision: Literal[2] = 2


class FixUpResNetOptions(ResNetOptions):
    """Post-activation ResNet with FixUp initialisation, scalar biases and multipliers (arXiv 1901.09321; code)."""

    name: Literal["fixup_resnet"] = "fixup_resnet"
    # The version of the network. 2: equal to the code, with bias1a on every shortcut and Haiku's default initial
    # weights in the stem. Runs of version 1, which had bias1a on projections only, keep other ids.
    revision: Literal[2] = 2


KnownModelOptions = Annotated[
    NFResNetOptions
    | BNResNetOptions
    | GNWSResNetOptions
    | UnnormalizedResNetOptions
    | SkipInitResNetOptions
    | FixUpResNetOptions
    | NFRegNetOptions
    | BNRegNetOptions
    | NFNetOptions
    | EfficientNetOptions
    | FullyConnectedOptions,
    Field(discriminator="name"),
]
ModelOptions = Annotated[
    Annotated[KnownModelOptions, Tag(OURS)] | Annotated[OwnNetworkOptions, Tag(OWN)],
    Discriminator(origin_of),
]

# Family name -> its options. The builders are in registry.py.
FAMILIES: dict[str, type[Options]] = {
    "nf_resnet": NFResNetOptions,
    "bn_resnet": BNResNetOptions,
    "gn_ws_resnet": GNWSResNetOptions,
    "unnormalized_resnet": UnnormalizedResNetOptions,
    "skipinit_resnet": SkipInitResNetOptions,
    "fixup_resnet": FixUpResNetOptions,
    "nf_regnet": NFRegNetOptions,
    "bn_regnet": BNRegNetOptions,
    "nfnet": NFNetOptions,
    "efficientnet": EfficientNetOptions,
    "fully_connected": FullyConnectedOptions,
}


def split_name(name: str) -> tuple[str, dict[str, Any]]:
    """The family in a name, and the option that it implies: `nf_resnet50` has depth 50, `nfnet_f0` variant f0."""
    if match := re.fullmatch(r"([a-z_]+_regnet|nfnet|efficientnet)_([bf]\d+)", name):
        return match[1], {"variant": match[2]}
    if match := re.fullmatch(r"([a-z_]+?)(\d+)", name):
        return match[1], {"depth": int(match[2])}
    return name, {}


# Image size of the networks without a table of variants (code: experiment.py).
DEFAULT_PIXELS = 224
# Family -> variant -> sizes.
SIZES_OF_VARIANTS: dict[str, Mapping[Any, Any]] = {
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
    """Height and width of the training images, by the same rule as `test_pixels`."""
    family, implied = split_name(name)
    variant = _variant(family, {**implied, **options})
    return test_pixels(name, options) if variant is None else int(variant.train_pixels)


def _variant(family: str, options: Mapping[str, Any]) -> Any:
    """The sizes of the variant; None for a family without a table of variants."""
    return SIZES_OF_VARIANTS.get(family, {}).get(options.get("variant"))


def _with_blocks(given: dict[str, Any]) -> dict[str, Any]:
    """Fills `blocks` from `depth` or `depth` from `blocks`, so that a network has one description only."""
    blocks, depth = given.get("blocks"), given.get("depth")
    if isinstance(blocks, list | tuple) and blocks and all(type(count) is int for count in blocks):
        named = {stages: name for name, stages in DEPTHS.items()}
        # Three layers per block, the stem and the classifier; the paper's 288 and 600 leave the last two out.
        layers = named.get(tuple(blocks), 3 * sum(blocks) + 2)
        if depth is not None and depth != layers:
            raise ValueError(f"blocks {list(blocks)} make {layers} layers, but depth is {depth}: give one of the two")
        return {**given, "depth": layers}
    if blocks is None:
        depth = 50 if depth is None else depth
        if type(depth) is not int:
            return {**given, "blocks": (1,)}  # the field's own check names the wrong type
        if depth not in DEPTHS:
            raise ValueError(f"depth {depth} has no table of blocks: use one of {sorted(DEPTHS)}, or give blocks")
        return {**given, "depth": depth, "blocks": DEPTHS[depth]}
    return given
