"""Residual additions inside scripted modules (torch.jit), which no hook sees: found in their graphs."""

from collections.abc import Iterator

import torch
from torch import nn

_ADDITIONS = {"aten::add", "aten::add_", "aten::sub", "aten::sub_", "aten::rsub", "aten::lerp", "aten::addcmul"}
_LAYERS = ("conv", "linear", "matmul", "addmm", "bmm", "scaled_dot_product_attention", "pool", "interpolate")


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
    """The nodes of `block` and of the blocks within, branches and loops, in order of execution."""
    for node in block.nodes():
        for inner in node.blocks():
            yield from _in_order(inner)
        yield node


def _is_residual(node: torch._C.Node, depths: dict[str, int]) -> bool:
    """Whether `node` adds activations behind different layers. Notes in `depths` how many layers its outputs passed."""
    kind = node.kind()
    inputs = [depths[value.debugName()] for value in node.inputs() if value.debugName() in depths]
    returned = [
        depths[value.debugName()] for block in node.blocks() for value in block.outputs() if value.debugName() in depths
    ]
    if inputs or returned:
        depth = max(inputs + returned) + any(layer in kind for layer in _LAYERS)
        depths.update({value.debugName(): depth for value in node.outputs()})
    return kind in _ADDITIONS and len(inputs) > 1 and len(set(inputs)) > 1
