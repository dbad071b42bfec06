"""Options of the plain and residual fully connected networks on which shattered gradients are measured. No torch.

They are not from the paper, but test its question cheaply at many depths ("source" is arXiv 1702.08591).
"""

from typing import Literal

from pydantic import Field, model_validator

from nfrepro.models.activation_names import ActivationName
from nfrepro.options import Options


class FullyConnectedOptions(Options):
    """`depth` layers f(x) = W g(norm(x)) between a first layer, which sees the image, and a linear classifier."""

    name: Literal["fully_connected"] = "fully_connected"
    # Number of layers f, each with one nonlinearity; in a residual network, of blocks.
    depth: int = Field(default=16, ge=1, le=4096)
    # Units per layer (source: 200, from memory).
    width: int = Field(default=200, ge=1, le=65536)
    # Height and width of its images; a fully connected network takes one size only.
    pixels: int = Field(default=28, ge=1, le=4096)
    # Nonlinearity g (source: relu).
    activation: ActivationName = "relu"
    # plain: f(x) follows f(x), no skip connections; residual: x + alpha f(x).
    connection: Literal["plain", "residual"] = "plain"
    # none: He initialisation; batch_norm: the same, with BatchNorm before every nonlinearity; scaled_ws: the
    # normalizer-free network, with Scaled Weight Standardization, gamma and, if residual, f(x / beta) by the ledger.
    normalization: Literal["none", "batch_norm", "scaled_ws"] = "none"
    # Scale of the residual branch (the source's beta); it must be 1 for a plain network, which has no branch.
    alpha: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _alpha_has_a_branch(self) -> "FullyConnectedOptions":
        if self.connection == "plain" and self.alpha != 1.0:
            raise ValueError(f"alpha {self.alpha:g} scales a residual branch, but connection is plain")
        return self

    @property
    def label(self) -> str:
        """Readable prefix of a run's name: family, depth, connection, normalization and, if residual, alpha."""
        alpha = f"-alpha{self.alpha:g}" if self.connection == "residual" else ""
        return f"{self.name}{self.depth}-{self.connection}-{self.normalization}{alpha}"
