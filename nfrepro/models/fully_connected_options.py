"""Options of the fully connected networks, plain and residual, that the shattered gradients are measured on. No torch.

They are not the paper's: its question is asked of them at many depths, cheaply ("source" is arXiv 1702.08591).
"""

from typing import Literal

from pydantic import Field, model_validator

from nfrepro.models.activation_names import ActivationName
from nfrepro.options import Options


class FullyConnectedOptions(Options):
    """`depth` layers f(x) = W g(norm(x)) between a first layer, which sees the image, and a linear classifier."""

    name: Literal["fully_connected"] = "fully_connected"
    # Layers f, each with one nonlinearity; of a residual network, blocks.
    depth: int = Field(default=16, ge=1, le=4096)
    # Units of every layer (source: 200, as we remember it).
    width: int = Field(default=200, ge=1, le=65536)
    # Height and width of its images: a fully connected network takes one size.
    pixels: int = Field(default=28, ge=1, le=4096)
    # Nonlinearity g (source: relu).
    activation: ActivationName = "relu"
    # plain: f(x) follows f(x), no skip connections; residual: x + alpha f(x).
    connection: Literal["plain", "residual"] = "plain"
    # none: He weights; batch_norm: the same, BatchNorm before every nonlinearity; scaled_ws: Scaled Weight
    # Standardization and gamma and, where residual, f(x / beta) by the ledger: the normalizer-free network.
    normalization: Literal["none", "batch_norm", "scaled_ws"] = "none"
    # Scale of the residual branch (the source's beta); a plain network has none, and leaves it at 1.
    alpha: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _alpha_has_a_branch(self) -> "FullyConnectedOptions":
        if self.connection == "plain" and self.alpha != 1.0:
            raise ValueError(f"alpha {self.alpha:g} scales a residual branch, but connection is plain")
        return self

    @property
    def label(self) -> str:
        """Readable front of a run's name: family, depth, connection, normalization and, where residual, alpha."""
        alpha = f"-alpha{self.alpha:g}" if self.connection == "residual" else ""
        return f"{self.name}{self.depth}-{self.connection}-{self.normalization}{alpha}"
