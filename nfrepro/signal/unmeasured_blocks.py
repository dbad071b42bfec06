"""Reasons why some or all of a network's residual blocks cannot be measured."""

from collections.abc import Iterator

import torch
from torch import nn

from nfrepro.errors import InputError
from nfrepro.signal.residual_additions import ResidualAdditions

# Kinds of nodes in scripted modules (torch.jit), of which nothing but the graph can be seen.
_ADDITIONS = {"aten::add", "aten::add_", "aten::sub", "aten::sub_", "aten::rsub", "aten::lerp", "aten::addcmul"}
_LAYERS = ("conv", "linear", "matmul", "addmm", "bmm", "scaled_dot_product_attention", "pool", "interpolate")


def require_all_seen(model: nn.Module, additions: ResidualAdditions) -> None:
    """Raises `InputError` for residual additions that cannot be seen or measured: rows would be missing."""
    name = type(model).__name__
    if scripted := scripted_modules_that_add(model):
        raise InputError(
            f"{scripted[0]} in {name} is a scripted module (torch.jit) with residual additions, which cannot be seen: "
            "measure the network before it is scripted, or name the modules to measure with blocks="
        )
    if additions.unjoined:
        raise InputError(
            f"{additions.unjoined} residual additions of {name} add parts of the batch that are never joined: their "
            "statistics would cover only some images; name the modules to measure with blocks="
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


def scripted_modules_that_add(model: nn.Module) -> list[str]:
    """Names of the outermost scripted modules of `model` that add activations with a layer between them."""
    scripted = {name: part for name, part in model.named_modules() if isinstance(part, torch.jit.ScriptModule)}
    outermost = [name for name in scripted if not any(name.startswith(f"{other}.") for other in scripted)]
    return [name for name in outermost if _adds(scripted[name])]


def _adds(module: torch.jit.ScriptModule) -> bool:
    graph = getattr(module, "inlined_graph", None)  # a list of modules has none
    if graph is None:
        return False
    depths: dict[str, int] = {value.debugName(): 0 for value in list(graph.inputs())[1:]}  # the first is `self`
    return any(_is_residual(node, depths) for node in _in_order(graph))


def _in_order(block: torch._C.Graph | torch._C.Block) -> Iterator[torch._C.Node]:
    """The nodes of `block` and of its nested blocks (branches and loops), in order of execution."""
    for node in block.nodes():
        for inner in node.blocks():
            yield from _in_order(inner)
        yield node


def _is_residual(node: torch._C.Node, depths: dict[str, int]) -> bool:
    """Whether `node` adds activations that passed unequal numbers of layers; notes its outputs' depths in `depths`."""
    kind = node.kind()
    inputs = [depths[value.debugName()] for value in node.inputs() if value.debugName() in depths]
    returned = [
        depths[value.debugName()] for block in node.blocks() for value in block.outputs() if value.debugName() in depths
    ]
    if inputs or returned:
        depth = max(inputs + returned) + any(layer in kind for layer in _LAYERS)
        depths.update({value.debugName(): depth for value in node.outputs()})
    return kind in _ADDITIONS and len(inputs) > 1 and len(set(inputs)) > 1
