"""Activations with their gains gamma (paper section 4.3; code: base.py, nonlinearities)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.plugins.loading import load_attribute
from nfrepro.plugins.names import is_name
from nfrepro.signal import gain, moments

GammaSource = Literal["published", "exact", "none"]


@dataclass(frozen=True)
class Activation:
    """A nonlinearity on [N, C, H, W] and the gain the authors published for it, if any (found by sampling)."""

    function: Callable[[Tensor], Tensor]
    published_gain: float | None = None
    # The exact gain of an activation that is not elementwise. None: elementwise, so 1-D quadrature gives it.
    exact_gain: Callable[[], float] | None = None
    in_place: Callable[[Tensor], Tensor] | None = None  # the same, written over its input

    @property
    def overwriting(self) -> Callable[[Tensor], Tensor]:
        """The function for an input that nothing else needs: it works in place, without allocating, if it can."""
        return self.in_place or self.function

    @property
    def elementwise(self) -> bool:
        return self.exact_gain is None

    def gamma(self, source: GammaSource) -> float:
        """The authors' constant, the exact one by quadrature, or 1; the first two differ by 0.12 % at most.

        If the authors published none, the exact one is used.
        """
        if source == "none":
            return 1.0
        if source == "published" and self.published_gain is not None:
            return self.published_gain
        return _gain(self.function) if self.exact_gain is None else self.exact_gain()

    @property
    def he_scale(self) -> float:
        """Fan-in times the weight variance that preserves the signal's mean square: 1 / E g(z)^2, or 2 for ReLU."""
        found = _moments(self.function)
        return 1.0 / (found.mean**2 + found.variance)

    def gammas(self, source: GammaSource, at: Literal["activation", "weights"]) -> tuple[float, float]:
        """gamma after the last activation, and gamma in convolutions that no activation feeds; one of them is 1."""
        gamma = self.gamma(source)
        return (gamma, 1.0) if at == "activation" else (1.0, gamma)


_gain, _moments = cache(gain), cache(moments)  # the functions of the table never change


def _identity(x: Tensor) -> Tensor:
    return x


def _glu_gain() -> float:
    """1 / sqrt(E[a^2] E[sigmoid(b)^2]) for independent a, b ~ N(0, 1): the mean of a sigmoid(b) is 0."""
    gate = moments(F.sigmoid)
    return float((gate.mean**2 + gate.variance) ** -0.5)


def _log_softmax_gain() -> float:
    """1, the limit of many channels.

    log_softmax shifts all C channels of a pixel by the same amount. The variance within a pixel is therefore that of
    the input for any C; this is what the authors average. A channel's variance over pixels is
    1 - 2/C + Var(logsumexp), about 1 - 0.3/C.
    """
    return 1.0


class ActivationTable(dict[str, Activation]):
    """Activations by name; names such as `my_pkg.acts:mish` are found in the project's own code and are not keys."""

    def __missing__(self, name: str) -> Activation:
        if not is_name(name):
            raise KeyError(name)
        return _own_activation(name, load_attribute(name))


# Two images of three channels, with distinct values, so that any mixing of values shows.
_SAMPLE = torch.linspace(-4.0, 4.0, 24).reshape(2, 3, 2, 2)


@cache
def _own_activation(name: str, found: Callable[..., object]) -> Activation:
    """The activation made from `found`. Raises `InputError` unless it is elementwise and has no parameters."""
    try:
        with torch.device("cpu"):  # networks are also built without data
            function = _function_of(name, found)
            whole = function(given := _SAMPLE.clone())
            parts = [function(_SAMPLE[:1, :1].clone()), function(_SAMPLE[1:, 2:, 1:, 1:].clone())]
    except InputError:
        raise
    except Exception as error:  # user code may raise anything
        raise InputError(f"activation {name}: {type(error).__name__}: {error}") from None
    if not all(isinstance(part, Tensor) for part in (whole, *parts)) or whole.shape != _SAMPLE.shape:
        raise InputError(f"activation {name}: must take one tensor and return one of the same shape")
    if not torch.equal(given, _SAMPLE):
        raise InputError(f"activation {name}: writes over its input, which skip paths need: return a new tensor")
    pairs = [(whole[:1, :1], parts[0]), (whole[1:, 2:, 1:, 1:], parts[1])]
    if not all(torch.allclose(one, other, rtol=1e-4, atol=1e-6, equal_nan=True) for one, other in pairs):
        raise InputError(
            f"activation {name}: is random or not elementwise: gamma is defined for functions of one number"
        )
    return Activation(function)


def _function_of(name: str, found: Callable[..., object]) -> Callable[[Tensor], Tensor]:
    """The function itself or, for a module class, the forward method of an instance."""
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        return found  # type: ignore[return-value]
    try:
        module = found()
    except TypeError as error:
        raise InputError(f"activation {name}: cannot be made without arguments: {error}") from None
    if any(True for _ in module.parameters()):
        raise InputError(f"activation {name}: has parameters, which would not be trained: make it a function")
    return module.eval().forward


ACTIVATIONS = ActivationTable(
    {
        "identity": Activation(_identity, 1.0),
        "relu": Activation(F.relu, 1.7139588594436646, in_place=F.relu_),
        "silu": Activation(F.silu, 1.7881293296813965),
        "gelu": Activation(partial(F.gelu, approximate="tanh"), 1.7015043497085571),
        "glu": Activation(partial(F.glu, dim=1), 1.8484294414520264, _glu_gain),
        "leaky_relu": Activation(F.leaky_relu, 1.70590341091156),
        "relu6": Activation(F.relu6, 1.7131484746932983),
        "elu": Activation(F.elu, 1.2716004848480225),
        "celu": Activation(F.celu, 1.270926833152771),
        "selu": Activation(F.selu, 1.0008515119552612),
        "tanh": Activation(F.tanh, 1.5939117670059204),
        "sigmoid": Activation(F.sigmoid, 4.803835391998291),
        "softplus": Activation(F.softplus, 1.9203323125839233),
        "log_sigmoid": Activation(F.logsigmoid, 1.9193484783172607),
        "log_softmax": Activation(partial(F.log_softmax, dim=1), 1.0002083778381348, _log_softmax_gain),
        "soft_sign": Activation(F.softsign, 2.338853120803833),
        # timm calls this gelu and uses the constant of the authors' tanh form, which is within 0.04 % of the exact one.
        "gelu_erf": Activation(F.gelu, 1.7015043497085571),
        "mish": Activation(F.mish),
        "hardswish": Activation(F.hardswish),
        "hardsigmoid": Activation(F.hardsigmoid),
        "hardtanh": Activation(F.hardtanh),
        "hardshrink": Activation(F.hardshrink),
        "softshrink": Activation(F.softshrink),
        "tanhshrink": Activation(F.tanhshrink),
    }
)
