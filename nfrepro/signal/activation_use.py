"""How a network uses its nonlinearities: which units its inputs switch on and off.

A rectifier that is on for every input, or off for every input, is linear on them. arXiv 1702.08591 counts the inputs
for which a unit of a rectifier network is active, and the pairs of inputs for which it is active on both, with and
without BatchNorm (inferred: not checked against its text).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nfrepro.errors import InputError
from nfrepro.signal.evaluation import evaluation
from nfrepro.signal.module_names import matching_modules

if TYPE_CHECKING:
    import pandas as pd

# Names of functions that pass positive numbers and suppress negative ones, for every way to call them: as a function, a
# method or an nn.Module, in place or not. tanh and sigmoid saturate on both sides, so they have no on and off.
RECTIFIERS = frozenset(
    {"relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "prelu", "rrelu", "rrelu_", "elu", "elu_", "celu", "celu_"}
    | {"selu", "selu_", "silu", "gelu", "mish", "softplus", "hardswish"}
)


def activation_use(
    model: nn.Module, x: Tensor, *, layers: str | None = None, batch_statistics: bool = True
) -> "pd.DataFrame":
    """Shares of active, always-on and dead units of each rectifying activation of `model`, over the images of `x`.

    A unit is a channel at a position; it is active for an image if its value before the activation is positive.
    Columns: `layer` (from 1, in order of execution), `module` (the innermost one that called the activation) and
    `function`; `active`, the share of images that a unit is active for, averaged over units; `coactive`, the same for
    pairs of different images; `always_on` and `dead`, the shares of units that are active for all images and for none.
    A unit that is on or off by a coin toss has active 1/2 and coactive 1/4. The regular expression `layers` chooses the
    activations in the modules whose whole name it matches.

    Runs one forward pass of `x` [N, ...] in evaluation mode, with the statistics of the batch in BatchNorm layers (or
    the running ones, without `batch_statistics`). The model is left unchanged.

    Raises `ValueError` for fewer than two images, if there are no such activations, and for numbers that are not
    finite. Exceptions of the model propagate.
    """
    import pandas as pd

    if len(x) < 2:
        raise InputError(f"x must be two images or more, got {len(x)}")
    chosen = None if layers is None else matching_modules(model, layers, "layers")
    recorder = _Recorder(model, chosen)
    with evaluation(model, batch_statistics), recorder.attached():
        model(x)
    if not recorder.rows:
        which = "" if layers is None else f" in modules that layers={layers!r} matches"
        raise InputError(f"no rectifying activation{which} was called in {type(model).__name__}")
    table = pd.DataFrame(recorder.rows)
    table.insert(0, "layer", range(1, len(table) + 1))
    return table


class _Recorder(TorchFunctionMode):
    """While attached, adds a row for each call of a rectifier in one of the `chosen` modules (None: in any module)."""

    def __init__(self, model: nn.Module, chosen: set[nn.Module] | None) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self._names = {module: name for name, module in model.named_modules()}
        self._chosen = chosen
        self._called: list[nn.Module] = []  # modules in progress, the innermost last

    @contextmanager
    def attached(self) -> Iterator[None]:
        with ExitStack() as stack:
            for module in self._names:
                if isinstance(module, torch.jit.ScriptModule):
                    continue  # it takes no hooks
                stack.callback(module.register_forward_pre_hook(self._enter).remove)
                stack.callback(module.register_forward_hook(self._leave).remove)
            stack.enter_context(self)
            yield

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").split(".")[0]  # an aten operator is named like relu.default
        if name in RECTIFIERS and (self._chosen is None or self._called[-1] in self._chosen):
            # Before the call, which may work in place.
            self._record(name.removesuffix("_"), args[0] if args else kwargs["input"])
        return func(*args, **kwargs)

    def _enter(self, module: nn.Module, _inputs: Any) -> None:
        self._called.append(module)

    def _leave(self, module: nn.Module, _inputs: Any, _output: Any) -> None:
        while self._called.pop() is not module:
            pass  # a call that ended in an exception, which the model caught

    def _record(self, function: str, x: Tensor) -> None:
        module = self._names[self._called[-1]]
        if not bool(torch.isfinite(x).all()):
            where = f"{function} {len(self.rows) + 1} (in {module or 'the model itself'})"
            raise InputError(f"the numbers before {where} are not finite: the signal explodes")
        images = len(x)
        counts = (x > 0).sum(0).double()  # active images per unit
        row = {
            "active": counts.mean() / images,
            "coactive": (counts * (counts - 1)).mean() / (images * (images - 1)),
            "always_on": (counts == images).double().mean(),
            "dead": (counts == 0).double().mean(),
        }
        self.rows.append({"module": module, "function": function} | {key: float(share) for key, share in row.items()})
