"""Why a network's residual blocks cannot be measured, or not all of them."""

from torch import nn

from nfrepro.errors import InputError
from nfrepro.signal.residual_additions import ResidualAdditions
from nfrepro.signal.scripted_additions import scripted_modules_that_add


def require_all_seen(model: nn.Module, additions: ResidualAdditions) -> None:
    """Raises `InputError` for a residual addition that was seen but not measured: a row would be missing."""
    name = type(model).__name__
    if scripted := scripted_modules_that_add(model):
        raise InputError(
            f"{scripted[0]} in {name} is a scripted module (torch.jit) with residual additions, which cannot be seen: "
            "measure the network before it is scripted, or name the modules to measure with blocks="
        )
    if additions.unjoined:
        raise InputError(
            f"{additions.unjoined} residual additions of {name} are of parts of the batch that are never joined: their "
            "statistics would be those of some images; name the modules to measure with blocks="
        )
    kinds = [kind for number, kind in additions.unmeasured.items() if number not in additions.of_attention]
    if kinds:
        raise InputError(
            f"{len(kinds)} residual additions of {name} cannot be measured (the first is {kinds[0]}): "
            "name the modules to measure with blocks="
        )


def nothing_found(model: nn.Module, of_vectors: int, blocks: str | None) -> str:
    """The reason why the table of `model` would be empty."""
    name = type(model).__name__
    if blocks is not None:
        return f"no module that blocks={blocks!r} matches was called in the forward pass of {name}: choose others"
    if of_vectors:
        return (
            f"no residual blocks of maps or sequences in {name}, but {of_vectors} residual additions of vectors [N, C]"
        )
    return (
        f"no residual blocks in {name}: no maps [N, C, H, W] or sequences [N, T, C] were added that have a layer "
        "between them; name the modules to measure with blocks="
    )
