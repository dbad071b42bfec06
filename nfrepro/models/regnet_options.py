"""Options of the RegNet families. No torch.

Sources: "paper" is arXiv 2101.08692; "code" is the authors' release (deepmind-research/nfnets); "ours" is neither.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from nfrepro.models.activation_names import ActivationName
from nfrepro.options import Options, added

VariantName = Literal["b0", "b1", "b2", "b3", "b4", "b5"]


@dataclass(frozen=True)
class Variant:
    """One size of the NF-RegNets, designed to match the cost of the EfficientNet of the same name (code: base.py)."""

    widths: tuple[int, int, int, int]  # channels of each stage, before the code's multiplier of 0.75
    depths: tuple[int, int, int, int]  # residual blocks of each stage
    train_pixels: int  # height and width of the images
    test_pixels: int
    dropout: float


VARIANTS: dict[VariantName, Variant] = {
    "b0": Variant((48, 104, 208, 440), (1, 3, 6, 6), 192, 224, 0.2),
    "b1": Variant((48, 104, 208, 440), (2, 4, 7, 7), 224, 256, 0.2),
    "b2": Variant((56, 112, 232, 488), (2, 4, 8, 8), 240, 272, 0.3),
    "b3": Variant((56, 128, 248, 528), (2, 5, 9, 9), 288, 320, 0.3),
    "b4": Variant((64, 144, 288, 616), (2, 6, 11, 11), 320, 384, 0.4),
    "b5": Variant((80, 168, 336, 704), (3, 7, 14, 14), 384, 456, 0.4),
}


class RegNetOptions(Options):
    """Options of both RegNets: four stages of inverted bottleneck blocks with grouped 3x3 convolutions."""

    # Size, from the table above (code).
    variant: VariantName = "b0"
    # Multiplier of all widths, in addition to the code's own factor of 0.75; 1.0 is the code's network.
    width: float = Field(default=1.0, gt=0, le=8)
    # Channels in each group of the 3x3 convolutions (code: 8); 1 is a depthwise convolution.
    group_width: int = Field(default=8, ge=1)
    # All widths are multiples of it. 1: rounded down (code); 8: rounded to the nearest multiple, or up if that would
    # remove more than a tenth (timm).
    channel_multiple: int = Field(default=1, ge=1)
    # Inner width of a block over its input width (code); the first block of the network always has 1.
    expansion: float = Field(default=2.25, gt=0)
    # Hidden width of squeeze-excite over the inner width of the block (code).
    squeeze_excite_ratio: float = Field(default=0.5, gt=0)
    # Initial weights of squeeze-excite, normal truncated at two deviations: lecun has variance 1 / fan-in (ours); haiku
    # has 0.774 / fan-in, the default of the code.
    squeeze_excite_init: Literal["lecun", "haiku"] = added("lecun")
    # Nonlinearity g (code). Squeeze-excite keeps ReLU.
    activation: ActivationName = "silu"
    # Stochastic depth: block i of L, from 0, drops its branch with probability rate * i / L (code).
    stochastic_depth: float = Field(default=0.1, ge=0, lt=1)
    # Whether to divide kept branches by the keep probability: false in the code, true in torchvision and timm.
    stochastic_depth_rescale: bool = False
    # Probability of dropping a pooled feature before the classifier; null: the variant's own (code).
    dropout: float | None = Field(default=None, ge=0, lt=1)
    # same: XLA's SAME padding, with one pixel more below and to the right if a stride of 2 meets an even size (code);
    # torch: symmetric.
    padding: Literal["same", "torch"] = "same"

    @property
    def label(self) -> str:
        """Readable prefix of a run's name: family and variant."""
        return f"{getattr(self, 'name', 'regnet')}_{self.variant}"


class NFRegNetOptions(RegNetOptions):
    """NF-RegNet: x + alpha * f(x / beta) with Scaled Weight Standardization (paper section 5; code: nf_regnet.py)."""

    name: Literal["nf_regnet"] = "nf_regnet"
    # Scale of the residual branch: the variance grows by alpha^2 per block (paper section 4; code).
    alpha: float = Field(default=0.2, ge=0)
    # Initial value of a learnable scalar at the end of each branch; null: no scalar (SkipInit; 0 in the code).
    skipinit_gain: float | None = 0.0
    # The constant that makes the activation preserve the variance: published (sampled by the authors), exact, or none,
    # which is 1 (an ablation).
    gamma: Literal["published", "exact", "none"] = "published"
    # activation: after every activation (code); weights: in every standardized weight, including those of the stem and
    # of the final convolution, but not after the last activation (timm).
    gamma_at: Literal["activation", "weights"] = "activation"
    # Rule that keeps the deviation of a filter away from 0: floor (code), sum (the paper's listing), timm.
    ws_epsilon: Literal["floor", "sum", "timm"] = "floor"
    # Variance estimator of a filter: population divides by N (code), sample by N - 1 (the paper's listing).
    ws_variance: Literal["population", "sample"] = "population"
    # Factor of the squeeze-excite gates, which are about 1/2 at first: 2 preserves the variance (paper).
    squeeze_excite_gain: float = Field(default=2.0, gt=0)
    # Where the division by beta acts: on the activated signal, gamma g(x) / beta (code), or on the block's input,
    # f(x / beta) (the paper's formula).
    beta_at: Literal["activation", "input"] = added("activation")

    @property
    def label(self) -> str:
        return f"{super().label}-alpha{self.alpha:g}"


class BNRegNetOptions(RegNetOptions):
    """BN-RegNet: the same shapes with BatchNorm and activation before each convolution (ours; none is released)."""

    name: Literal["bn_regnet"] = "bn_regnet"
