"""Task `network_properties`: what must hold for a network without normalization, whatever it has learnt.

Images must not affect each other, training and evaluation must not differ, it must be possible to fold standardization
into the weights, and a SkipInit scalar of 0 must make every block but the transition blocks the identity (paper
section 4.2; code).
"""

import torch
from torch import Tensor, nn

from nfrepro.data.probe_batch import gaussian_batch
from nfrepro.errors import InputError
from nfrepro.models.cost import count_authors_multiply_adds, count_cost
from nfrepro.models.folding import fold
from nfrepro.models.options import test_pixels, train_pixels
from nfrepro.models.registry import build
from nfrepro.options import Options
from nfrepro.seeding import stream_seed
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.options import NetworkPropertiesTask
from nfrepro.training.context import RunContext

CLASSES, CHANNELS = 1000, 3
EVENLY_HALVED = (128, 256)  # sides of images


def run(task: NetworkPropertiesTask, ctx: RunContext) -> Outcome:
    """Measures differences relative to the largest logit, and counts multiply-adds in billions.

    Multiply-adds are counted at the network's test resolution, as torch executes them and as the authors count them,
    and at its training resolution.
    """
    torch.manual_seed(stream_seed("weights", task.seed))
    model = build(task.model, CLASSES, CHANNELS).eval()
    identity_error = _identity_error(model, task)
    _unsettle(model)
    x, others = (gaussian_batch(task.batch, CHANNELS, task.pixels, 2 * task.seed + part) for part in (0, 1))
    mixed = torch.cat([x[:1], others[1:]])
    with torch.no_grad():
        logits = model(x)
        numbers = {
            "batch_dependence": _difference(model.train()(x)[:1], model(mixed)[:1]),
            "train_test_gap": _difference(model(x), logits),
            "folding_error": _folding_error(model.eval(), x, logits),
            "identity_error": identity_error,
        }
    network = task.model.name, task.model.model_dump()
    pixels = test_pixels(*network)
    numbers |= {
        "multiply_adds": multiply_adds(task.model, pixels) / 1e9,
        "multiply_adds_authors": count_authors_multiply_adds(task.model, CLASSES, CHANNELS, pixels, pixels) / 1e9,
        "multiply_adds_pixels": pixels,
        "multiply_adds_at_train_pixels": multiply_adds(task.model, train_pixels(*network)) / 1e9,
        "multiply_adds_unrounded": unrounded_multiply_adds(task.model, pixels) / 1e9,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    return Outcome("completed", numbers)


def _unsettle(model: nn.Module) -> None:
    """Moves every parameter off its initial value, so that all of them matter."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def _difference(value: Tensor, expected: Tensor) -> float:
    return float((value - expected).abs().max() / expected.abs().max())


def _folding_error(model: nn.Module, x: Tensor, logits: Tensor) -> float | None:
    """The difference of the logits after folding; None for networks that cannot be folded."""
    try:
        return _difference(fold(model)(x), logits)
    except InputError:
        return None


@torch.no_grad()
def _identity_error(model: nn.Module, task: NetworkPropertiesTask) -> float | None:
    """The largest |block(x) - x| at initialisation, over all but transition blocks; None without SkipInit scalars."""
    x = model.forward_stem(gaussian_batch(1, CHANNELS, task.pixels, task.seed))  # type: ignore[operator]
    errors = []
    for stage in model.stages:  # type: ignore[union-attr]
        for index, block in enumerate(stage):
            out = block(x)
            if index > 0 and getattr(block, "skip_gain", None) is not None:
                errors.append(float((out - x).abs().max()))
            x = out
    return max(errors, default=None)


def multiply_adds(options: Options, pixels: int) -> int:
    """Multiply-adds for one image, counted from what torch would execute; nothing is computed."""
    return count_cost(options, CLASSES, CHANNELS, pixels).multiply_adds


def unrounded_multiply_adds(options: Options, pixels: int) -> float:
    """Multiply-adds without rounding of odd sizes, as the authors count: each stride halves the side of a map exactly.

    At sizes that every stride halves, the count is a constant for the classifier and squeeze-excite plus a term
    proportional to the number of pixels: a straight line, determined from two sizes.
    """
    small, large = (multiply_adds(options, side) for side in EVENLY_HALVED)
    slope = (large - small) / (EVENLY_HALVED[1] ** 2 - EVENLY_HALVED[0] ** 2)
    return small + slope * (pixels**2 - EVENLY_HALVED[0] ** 2)
