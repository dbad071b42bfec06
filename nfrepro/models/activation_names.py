"""Names of the activations that options may ask for; activations.py has the functions. No torch."""

from typing import Literal

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
