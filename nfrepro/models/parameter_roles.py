"""Roles of a network's parameters, for the recipe: which decay, and which are its classifier's.

For networks of this package this is as in the authors' code; others are asked for their modules, never for names.
"""

from torch import nn

# Layers that normalise: their gains and shifts do not decay.
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

    Of this package's networks the weights of convolutions and of the classifier. Of others every parameter but biases,
    those of normalisation layers, and vectors and scalars, which are gains.
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
    """The last layer: `model.linear` of this package's networks, `model.get_classifier()` of timm's, and of others the
    last linear layer in the order in which they were made; None for a network without one."""
    if is_of_this_package(model):
        assert isinstance(model.linear, nn.Module)
        return model.linear
    if callable(asked := getattr(model, "get_classifier", None)):
        found = asked()
        return found if isinstance(found, nn.Module) else None
    return next((module for module in reversed(list(model.modules())) if isinstance(module, nn.Linear)), None)
