"""Options of the NFNets, which the authors' next paper builds from this one's blocks. No torch.

Sources: "follow-up" is arXiv 2102.06171; "code" is its release (deepmind-research/nfnets: nfnet.py, base.py, and
experiment_nfnets.py for training).
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from nfrepro.models.activation_names import ActivationName
from nfrepro.options import Options, added

VariantName = Literal["f0", "f1", "f2"]


@dataclass(frozen=True)
class Variant:
    """One size of the NFNets, which differ in depth, image size and dropout (code: base.py)."""

    depths: tuple[int, int, int, int]  # residual blocks of each stage
    train_pixels: int  # height and width of the images
    test_pixels: int
    dropout: float


VARIANTS: dict[VariantName, Variant] = {
    "f0": Variant((1, 2, 6, 3), 192, 256, 0.2),
    "f1": Variant((2, 4, 12, 6), 224, 320, 0.3),
    "f2": Variant((3, 6, 18, 9), 256, 352, 0.4),
}


class NFNetOptions(Options):
    """NFNet: x + alpha * f(x / beta) with Scaled Weight Standardization and two grouped 3x3 convolutions in f."""

    name: Literal["nfnet"] = "nfnet"
    # Size, from the table above (code).
    variant: VariantName = "f0"
    # Multiplier of the stages' 256, 512, 1536, 1536 channels; the stem keeps its 16, 32, 64, 128 (code).
    width: float = Field(default=1.0, gt=0, le=8)
    # Channels in each group of the 3x3 convolutions (code).
    group_width: int = Field(default=128, ge=1)
    # Inner width of a block over its output width, rounded down to whole groups (code: expansion).
    bottleneck_ratio: float = Field(default=0.5, gt=0)
    # Width of the final convolution over that of the last stage (code).
    final_ratio: float = Field(default=2.0, gt=0)
    # Nonlinearity g (code: gelu, in its tanh form). Squeeze-excite keeps ReLU.
    activation: ActivationName = "gelu"
    # Scale of the residual branch: the variance grows by alpha^2 per block (code).
    alpha: float = Field(default=0.2, ge=0)
    # Initial value of a learnable scalar at the end of each branch; null: no scalar (SkipInit; 0 in the code).
    skipinit_gain: float | None = 0.0
    # The constant that makes the activation preserve the variance: published (sampled by the authors), exact, or none,
    # which is 1 (an ablation).
    gamma: Literal["published", "exact", "none"] = "published"
    # activation: after every activation (code; timm's dm_nfnet); weights: in every standardized weight, including those
    # of the first and the final convolution, but not after the last activation (timm's own nfnet).
    gamma_at: Literal["activation", "weights"] = "activation"
    # Rule that keeps the deviation of a filter away from 0: floor (code), sum (the listing of arXiv 2101.08692), timm.
    ws_epsilon: Literal["floor", "sum", "timm"] = "floor"
    # Variance estimator of a filter: population divides by N (code), sample by N - 1 (that listing).
    ws_variance: Literal["population", "sample"] = "population"
    # Hidden width of squeeze-excite over the output width of the block (code).
    squeeze_excite_ratio: float = Field(default=0.5, gt=0)
    # Factor of the squeeze-excite gates, which are about 1/2 at first: 2 preserves the variance (code).
    squeeze_excite_gain: float = Field(default=2.0, gt=0)
    # Where the division by beta acts: on the activated signal, gamma g(x) / beta (code), or on the block's input,
    # f(x / beta) (the paper's formula).
    beta_at: Literal["activation", "input"] = added("activation")
    # Initial weights of squeeze-excite, normal truncated at two deviations: lecun has variance 1 / fan-in (ours); haiku
    # has 0.774 / fan-in, the default of the code.
    squeeze_excite_init: Literal["lecun", "haiku"] = added("lecun")
    # Stochastic depth: block i of L, from 0, drops its branch with probability rate * i / L (code; rate of its runs).
    stochastic_depth: float = Field(default=0.25, ge=0, lt=1)
    # Whether to divide kept branches by the keep probability: false in the code, true in torchvision and timm.
    stochastic_depth_rescale: bool = False
    # Probability of dropping a pooled feature before the classifier; null: the variant's own (code).
    dropout: float | None = Field(default=None, ge=0, lt=1)
    # same: XLA's SAME padding, with one pixel more below and to the right if a stride of 2 meets an even size (code);
    # torch: symmetric.
    padding: Literal["same", "torch"] = "same"

    @property
    def label(self) -> str:
        """Readable prefix of a run's name: family, variant and alpha."""
        return f"{self.name}_{self.variant}-alpha{self.alpha:g}"
