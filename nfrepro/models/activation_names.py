"""Names of the activations that options accept; their functions are in activations.py. No torch."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Tag

from nfrepro.plugins.names import OURS, OWN, OwnName, origin_of

# The authors' table (code: base.py, nonlinearities), timm's form of GELU, and, by their names in torch.nn.functional,
# torch's other elementwise functions that have no arguments or parameters and are not random.
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


# Activations that a network accepts: any of the above except glu, listed only for its gain, or a user's own function.
ActivationName = Annotated[
    Annotated[KnownActivation, AfterValidator(_keeps_the_channels), Tag(OURS)] | Annotated[OwnName, Tag(OWN)],
    Discriminator(origin_of),
]
# Activations that have a gain: any of the above, or a user's own function.
GainedActivation = Annotated[
    Annotated[KnownActivation, Tag(OURS)] | Annotated[OwnName, Tag(OWN)],
    Discriminator(origin_of),
]
