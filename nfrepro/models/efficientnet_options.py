"""Options of the EfficientNets, which figure 3 compares with the NF-RegNets. No torch.

Sources: "paper" is arXiv 1905.11946; "torchvision" is torchvision.models.efficientnet.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from nfrepro.options import Options

VariantName = Literal["b0", "b1", "b2", "b3", "b4", "b5"]


@dataclass(frozen=True)
class Variant:
    """One size of the EfficientNets. Training and test images have the same size."""

    width: float  # multiplier of B0's channels
    depth: float  # multiplier of B0's number of blocks in each stage, rounded up
    train_pixels: int  # height and width of the images
    test_pixels: int
    dropout: float
    norm_epsilon: float = 1e-5  # of BatchNorm
    norm_momentum: float = 0.1  # of BatchNorm's running averages: the weight of the new batch


# torchvision; its B2 is tested at 288 pixels.
VARIANTS: dict[VariantName, Variant] = {
    "b0": Variant(1.0, 1.0, 224, 224, 0.2),
    "b1": Variant(1.0, 1.1, 240, 240, 0.2),
    "b2": Variant(1.1, 1.2, 288, 288, 0.3),
    "b3": Variant(1.2, 1.4, 300, 300, 0.3),
    "b4": Variant(1.4, 1.8, 380, 380, 0.4),
    "b5": Variant(1.6, 2.2, 456, 456, 0.4, norm_epsilon=1e-3, norm_momentum=0.01),
}


class EfficientNetOptions(Options):
    """EfficientNet: inverted bottlenecks with depthwise convolutions, squeeze-excite, SiLU and BatchNorm (paper)."""

    name: Literal["efficientnet"] = "efficientnet"
    # Size, from the table above (torchvision).
    variant: VariantName = "b0"
    # Multiplier of all widths, on top of the variant's own. Widths are rounded to the nearest multiple of 8, or up if
    # that would remove more than a tenth (torchvision).
    width: float = Field(default=1.0, gt=0, le=8)
    # Stochastic depth: block i of L, from 0, drops its branch with probability rate * i / L; kept branches are divided
    # by the keep probability (torchvision).
    stochastic_depth: float = Field(default=0.2, ge=0, lt=1)
    # Probability of dropping a pooled feature before the classifier; null: the variant's own (torchvision).
    dropout: float | None = Field(default=None, ge=0, lt=1)

    @property
    def label(self) -> str:
        """Readable prefix of a run's name: family and variant."""
        return f"{self.name}_{self.variant}"
