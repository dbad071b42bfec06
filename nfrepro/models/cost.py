"""Cost of a network, counted on meta tensors without computation or allocation (own code may need the CPU)."""

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nfrepro.errors import InputError
from nfrepro.models.own_options import OwnNetworkOptions
from nfrepro.models.registry import build
from nfrepro.options import Options

# Batch size; no other tensor kept for backward has a first dimension of this size.
BATCH = 3
# Blocks of a stage after which all cost the same: the first changes the shape; only the very first is never dropped.
BLOCKS_UNLIKE = 2


@dataclass(frozen=True)
class NetworkCost:
    """The cost of one network in training, on square images of one size."""

    parameters: int
    layers: int  # convolutions and linear layers: weights of two or more dimensions
    multiply_adds: int  # of one image's forward pass, in convolutions and matrix products; the same in evaluation
    activation_bytes: int  # of one image, kept from forward for backward, in float32
    kept_weight_bytes: int  # kept for any batch size: standardized weights, statistics of BatchNorm

    def plus(self, other: "NetworkCost", times: int) -> "NetworkCost":
        return NetworkCost(*(getattr(self, f.name) + times * getattr(other, f.name) for f in fields(self)))


def count_cost(options: Options, classes: int, channels: int, pixels: int) -> NetworkCost:
    """The cost of the network that `options` describe.

    The cost of a deep network follows exactly from shallow ones: each further block of a stage adds the same.
    """
    blocks: tuple[int, ...] = getattr(options, "blocks", ())
    few = tuple(min(count, BLOCKS_UNLIKE) for count in blocks)
    cost = shallow = _count(_with_blocks(options, few), classes, channels, pixels)
    for stage, count in enumerate(blocks):
        if count > BLOCKS_UNLIKE:
            one_more = (*few[:stage], few[stage] + 1, *few[stage + 1 :])
            added = _count(_with_blocks(options, one_more), classes, channels, pixels).plus(shallow, times=-1)
            cost = cost.plus(added, times=count - BLOCKS_UNLIKE)
    return cost


def count_authors_multiply_adds(options: Options, classes: int, channels: int, height: int, width: int) -> float:
    """Multiply-adds of one image's forward pass, as the authors count them (their `count_flops`; code: base.py).

    They do not round odd sizes divided by a stride. In their ResNets they ignore the max pool, so everything after it
    counts four times over, and divide by the stride of a shortcut twice. Only convolutions and linear layers count.
    """
    with torch.device("meta"):
        model = build(options, classes, channels).eval()
        x = torch.empty(1, channels, height, width)
    pooled = 2 if getattr(getattr(model, "stem_shape", None), "max_pool", False) else 1
    shortcuts = {module for name, module in model.named_modules() if name.endswith("conv_shortcut")}
    total = 0.0

    def count(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Linear):
            total += module.in_features * module.out_features
            return
        assert isinstance(module, nn.Conv2d)
        after_pool = 1 if module is model.initial_conv else pooled
        positions = 1.0
        for size, left in zip((height, width), output.shape[2:], strict=True):
            halvings = next(count for count in range(32) if -(-size // 2**count) == left)
            positions *= size / 2**halvings * after_pool
        twice = math.prod(module.stride) if module in shortcuts else 1
        total += positions * module.weight.numel() / twice

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(x)
    return total


def _with_blocks(options: Options, blocks: tuple[int, ...]) -> Options:
    if not blocks:
        return options
    return type(options).model_validate(options.model_dump(exclude={"depth"}) | {"blocks": blocks})


@lru_cache(maxsize=256)  # networks that differ only in depth share these counts
def _count(options: Options, classes: int, channels: int, pixels: int) -> NetworkCost:
    if not isinstance(options, OwnNetworkOptions):
        return _count_on("meta", options, classes, channels, pixels)
    try:
        return _count_on("meta", options, classes, channels, pixels)
    except Exception:  # own code may read values, or use NumPy: give it real ones
        try:
            return _count_on("cpu", options, classes, channels, pixels)
        except InputError:
            raise
        except Exception as error:
            lines = str(error).splitlines() or [""]
            raise InputError(
                f"{options.name}: its cost cannot be counted: "
                f"with images [{BATCH}, {channels}, {pixels}, {pixels}] it raises {type(error).__name__}: {lines[0]}"
            ) from None


def _count_on(device: str, options: Options, classes: int, channels: int, pixels: int) -> NetworkCost:
    with torch.device(device):
        model = build(options, classes, channels).train()
        x = torch.zeros(BATCH, channels, pixels, pixels)
    kept = _Kept(model)
    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(kept.see, _unchanged):
        model(x)
    return NetworkCost(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        layers=sum(parameter.dim() > 1 for parameter in model.parameters()),
        multiply_adds=counter.get_total_flops() // (2 * BATCH),
        activation_bytes=kept.bytes(of_images=True) // BATCH,
        kept_weight_bytes=kept.bytes(of_images=False),
    )


class _Kept:
    """Storages that autograd keeps for backward, each counted once, without the parameters, which exist anyway."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = [parameter.untyped_storage() for parameter in model.parameters()]
        self.own = {id(storage) for storage in self.parameters}
        self.storages: dict[int, tuple[torch.UntypedStorage, bool]] = {}

    def see(self, x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if id(storage) not in self.own:
            self.storages[id(storage)] = storage, x.shape[:1] == (BATCH,)
        return x

    def bytes(self, of_images: bool) -> int:
        return sum(storage.nbytes() for storage, per_image in self.storages.values() if per_image is of_images)


def _unchanged(x: Tensor) -> Tensor:
    return x
