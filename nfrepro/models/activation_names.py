"""Names of the activations that options may ask for; activations.py has the functions. No torch."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Tag

from nfrepro.plugins.names import OURS, OWN, OwnName, origin_of

# The authors' table (code: base.py, nonlinearities), timm's form of GELU, and the rest of torch's elementwise functions
# by their names in torch.nn.functional: all that need no argument, learn nothing and draw nothing.
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
    "mish",
    "hardswish",
    "hardsigmoid",
    "hardtanh",
    "hardshrink",
    "softshrink",
    "tanhshrink",
]


def _keeps_the_channels(name: KnownActivation) -> KnownActivation:
    if name == "glu":
        raise ValueError(
            "glu halves the channels, and no network here widens the convolution before it "
            "(nor does the authors' code): use another activation, say silu"
        )
    return name


# What a network takes: any of the above but glu, which is in the table for its gain only, or a function of one's own.
ActivationName = Annotated[
    Annotated[KnownActivation, AfterValidator(_keeps_the_channels), Tag(OURS)] | Annotated[OwnName, Tag(OWN)],
    Discriminator(origin_of),
]
# What has a gain: any of the above.
GainedActivation = Annotated[
    Annotated[KnownActivation, Tag(OURS)] | Annotated[OwnName, Tag(OWN)],
    Discriminator(origin_of),
]
