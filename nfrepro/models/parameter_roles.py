"""Roles of a network's parameters, for the recipe: which decay, and which are its classifier's.

For networks of this package, roles are as in the authors' code; for others, they follow from modules, never from names.
"""

from torch import nn

# Normalisation layers: their gains and shifts do not decay.
NORMALIZATIONS = (
    nn.modules.batchnorm._NormBase,  # BatchNorm and InstanceNorm, of any dimension
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


def is_of_this_package(model: nn.Module) -> bool:
    """Whether `model` is one of the paper's networks, as this package builds them."""
    return type(model).__module__.partition(".")[0] == "nfrepro"


def decaying(model: nn.Module) -> set[int]:
    """The `id` of every parameter that weight decay acts on.

    In this package's networks, these are the weights of convolutions and linear layers. In others, they are all
    parameters except biases, those of normalisation layers, and vectors and scalars, which are gains.
    """
    if is_of_this_package(model):
        return {id(module.weight) for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    spared = {
        id(parameter)
        for module in model.modules()
        for parameter in (
            module.parameters(recurse=False) if isinstance(module, NORMALIZATIONS) else [getattr(module, "bias", None)]
        )
    }
    return {id(p) for p in model.parameters() if p.ndim >= 2 and id(p) not in spared}


def classifier(model: nn.Module) -> nn.Module | None:
    """The classifier layer; None for a network without one.

    It is `model.linear` in this package's networks, `model.get_classifier()` in networks with that method (timm's), and
    otherwise the last linear layer in the order of `model.modules()`.
    """
    if is_of_this_package(model):
        assert isinstance(model.linear, nn.Module)
        return model.linear
    if callable(asked := getattr(model, "get_classifier", None)):
        found = asked()
        return found if isinstance(found, nn.Module) else None
    return next((module for module in reversed(list(model.modules())) if isinstance(module, nn.Linear)), None)
