"""Names of the activations that options may ask for; activations.py has the functions. No torch."""

from typing import Annotated, Literal

from pydantic import AfterValidator

# The authors' table (code: base.py, nonlinearities) and, last, timm's form of GELU.
KnownActivation = Literal[
    "identity",
    "relu",
    "silu",
    "gelu",
    "glu",
    "leaky_relu",
    "relu6",
    "elu",
    "celu",
    "selu",
    "tanh",
    "sigmoid",
    "softplus",
    "log_sigmoid",
    "log_softmax",
    "soft_sign",
    "gelu_erf",
]


def _keeps_the_channels(name: KnownActivation) -> KnownActivation:
    if name == "glu":
        raise ValueError(
            "glu halves the channels, and no network here widens the convolution before it "
            "(nor does the authors' code): use another activation, say silu"
        )
    return name


# What a network takes: any of the above but glu, which is in the table for its gain only.
ActivationName = Annotated[KnownActivation, AfterValidator(_keeps_the_channels)]
