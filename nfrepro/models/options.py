"""Options of every network family: schema, defaults and manual at once. No torch.

A family is one class here and one builder in `registry.py`. Sources: "paper" is arXiv 2101.08692; "code" is the
authors' release (deepmind-research/nfnets).
"""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nfrepro.options import Options

# Residual blocks in each stage, by depth (code: nf_resnet.py, variant_dict). 26 is not the paper's: the smallest
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

ActivationName = Literal[
    "identity",
    "relu",
    "silu",
    "gelu",
    "leaky_relu",
    "relu6",
    "elu",
    "celu",
    "selu",
    "tanh",
    "sigmoid",
    "softplus",
    "log_sigmoid",
    "soft_sign",
]


class ResNetOptions(Options):
    """What every ResNet of the paper has: pre-activation bottleneck blocks in stages 256, 512, 1024, 2048 wide."""

    # Number of layers by name; picks `blocks` from the table above.
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
    # same: XLA's SAME padding, below and to the right only where a stride meets an even size (code); torch: symmetric.
    padding: Literal["same", "torch"] = "same"

    @model_validator(mode="before")
    @classmethod
    def _depth_and_blocks_agree(cls, given: Any) -> Any:
        return _with_blocks(given) if isinstance(given, dict) else given

    @property
    def label(self) -> str:
        """Readable front of a run's name: family and depth."""
        return f"{getattr(self, 'name', 'resnet')}{self.depth}"


class NFResNetOptions(ResNetOptions):
    """NF-ResNet: x + alpha * f(x / beta) with Scaled Weight Standardization (paper section 4)."""

    name: Literal["nf_resnet"] = "nf_resnet"
    # Scale of the residual branch: the variance grows by alpha^2 a block (paper section 4; 0.2 in all released models).
    alpha: float = Field(default=0.2, ge=0)
    # Learnable scalar at the end of each branch, by its initial value; null: none (SkipInit; 0 in the code).
    skipinit_gain: float | None = 0.0
    # The constant that makes the activation variance preserving: published (sampled by the authors) or exact.
    gamma: Literal["published", "exact"] = "published"

    @property
    def label(self) -> str:
        return f"{super().label}-alpha{self.alpha:g}"


class BNResNetOptions(ResNetOptions):
    """BN-ResNet, version 2 blocks: BN-ReLU-Conv (code: resnet.py)."""

    name: Literal["bn_resnet"] = "bn_resnet"
    # Variance of the initial weights times fan-in: lecun is 1, truncated normal (the code's default); he is 2, the
    # value that figure 1 of the paper needs.
    conv_init: Literal["lecun", "he"] = "lecun"


ModelOptions = Annotated[NFResNetOptions | BNResNetOptions, Field(discriminator="name")]

# Family name -> its options. The builders are in registry.py.
FAMILIES: dict[str, type[NFResNetOptions] | type[BNResNetOptions]] = {
    "nf_resnet": NFResNetOptions,
    "bn_resnet": BNResNetOptions,
}


def split_name(name: str) -> tuple[str, int | None]:
    """`nf_resnet50` is the family `nf_resnet` at depth 50; a bare family name has no depth of its own."""
    match = re.fullmatch(r"([a-z_]+?)(\d+)", name)
    return (match[1], int(match[2])) if match else (name, None)


def _with_blocks(given: dict[str, Any]) -> dict[str, Any]:
    """Fills `blocks` from `depth` or `depth` from `blocks`, so that a network has one description only."""
    blocks, depth = given.get("blocks"), given.get("depth")
    if isinstance(blocks, list | tuple) and blocks and all(type(count) is int for count in blocks):
        named = {stages: name for name, stages in DEPTHS.items()}
        # Three layers a block, the stem and the classifier; the paper's 288 and 600 leave the last two out.
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
