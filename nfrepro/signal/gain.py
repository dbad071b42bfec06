"""The gain gamma of an activation (paper section 4.3 and appendix D), by quadrature instead of sampling."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nfrepro.errors import InputError

Activation = Callable[[Tensor], Tensor]

# Beyond 14 standard deviations the Gaussian weighs less than 1e-43, so only heavy tails matter there. They are followed
# to 38, where the Gaussian itself is the smallest number of float64, but no farther than they count, since a function
# may leave the range of its type.
_REACHES = (14.0, 20.0, 26.0, 32.0, 38.0)
# Number of points at which a function is evaluated twice before it is integrated, to detect randomness and NaN.
_PLACES = 28_001
# The first intervals are half a standard deviation wide, so that kinks at integers, above all 0, lie on edges.
_INTERVALS_PER_DEVIATION = 2
# Share of the integral that may lie in the outermost intervals.
_TAIL = 1e-9
# An interval is accurate if halving it changes the integral by less than this share of the whole. Functions that
# compute in a shorter type than float64 are not smooth below a fraction of that type's resolution.
_TOLERANCE = 2e-16
_SHARE_OF_RESOLUTION = 0.25
# An interval as narrow as a rounding error cannot be halved: it holds a step or a pole. Only a pole adds much.
_NARROWEST = 1e-15
_STEP = 1e-6
_GROWING = "no finite variance: its tails outgrow the Gaussian's"
_TOO_LONG = f"its tails count beyond {_REACHES[-1]:g} standard deviations, where float64 ends"
_TOO_LARGE = "its square is larger than float64 holds"
# More intervals than this at once mean a function that no quadrature can follow, say a random one.
_MOST_INTERVALS = 100_000


def _lobatto(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss-Lobatto quadrature on [-1, 1]. The ends are nodes: no step hides there."""
    polynomial = np.polynomial.Legendre.basis(count - 1)
    nodes = np.array([-1.0, *np.sort(polynomial.deriv().roots().real), 1.0])
    nodes = 0.5 * (nodes - nodes[::-1])  # the roots are symmetric, up to rounding
    weights = 2.0 / (count * (count - 1) * polynomial(nodes) ** 2)
    return torch.from_numpy(nodes), torch.from_numpy(weights)


_NODES, _WEIGHTS = _lobatto(20)


@dataclass(frozen=True)
class Moments:
    """Mean and variance of `g(z)` for `z ~ N(0, 1)`: the paper's mu_g and sigma_g squared."""

    mean: float
    variance: float

    @property
    def gain(self) -> float:
        """gamma = 1 / sigma_g."""
        return 1.0 / math.sqrt(self.variance)


def moments(activation: Activation) -> Moments:
    """Mean and variance of an elementwise `activation` under a standard Gaussian, in float64.

    Kinks and steps may be anywhere. A function that computes in a shorter type, say float32, is integrated as
    accurately as that type allows. Raises `ValueError` for anything but an elementwise function of a tensor, and if
    there is no finite, positive variance: a constant, NaN, overflow, a pole, tails that outgrow the Gaussian.
    """
    with torch.device("cpu"):  # even while a network is being built on another device, or on none
        return _moments(activation)


def _moments(activation: Activation) -> Moments:
    activation = _in_its_type(activation)
    resolution = _resolution(activation)
    _check_repeatable(activation)
    _check_elementwise(activation, resolution)
    tolerance = max(_TOLERANCE, _SHARE_OF_RESOLUTION * resolution)
    mean = _gaussian_expectation(activation, lambda values: values, tolerance)
    variance = _gaussian_expectation(activation, lambda values: (values - mean) ** 2, tolerance)
    # Rounding gives a constant a variance of about 1e-32 of its square in float64.
    if not max(1e-24 * mean**2, 1e-200) < variance < math.inf:
        raise InputError(f"{_no_gain(activation)} mean {mean:g}, variance {variance:g} under N(0, 1)")
    return Moments(mean, variance)


def gain(activation: Activation) -> float:
    """gamma = 1 / sqrt(Var(g(z))), `z ~ N(0, 1)`: scales `g` to unit variance. ReLU: sqrt(2 / (1 - 1/pi))."""
    return moments(activation).gain


@dataclass(frozen=True)
class _InFloat32:
    """An activation that takes float32 only, such as a module with parameters of that type."""

    activation: Activation

    def __call__(self, z: Tensor) -> Tensor:
        return self.activation(z.float())

    def __str__(self) -> str:
        return str(self.activation)


def _in_its_type(activation: Activation) -> Activation:
    """`activation` as a function of float64 numbers."""
    if not callable(activation):
        raise InputError(f"{_no_gain(activation)} it is not a function")
    z = torch.linspace(-3.0, 3.0, 61, dtype=torch.float64)
    try:
        _output(activation, z)
    except InputError:
        in_float32 = _InFloat32(activation)
        try:
            _output(in_float32, z)
        except InputError:
            return activation  # its error for float64 is the one to report
        return in_float32
    return activation


def _resolution(activation: Activation) -> float:
    """The machine epsilon of the type that `activation` returns; that of float64 for integers."""
    dtype = _output(activation, torch.linspace(-3.0, 3.0, 61, dtype=torch.float64)).dtype
    return torch.finfo(dtype if dtype.is_floating_point else torch.float64).eps


def _check_repeatable(activation: Activation) -> None:
    """Raises `ValueError` unless `activation` gives finite numbers everywhere, and the same ones each time."""
    z = torch.linspace(-_REACHES[0], _REACHES[0], _PLACES, dtype=torch.float64)
    once, again = _evaluate(activation, z), _evaluate(activation, z)
    if len(other := (once != again).nonzero()):
        at = int(other[0])
        raise InputError(
            f"{_no_gain(activation)} it is random, or has a state: at {z[at].item():g} it gives {once[at].item()} "
            f"the first time and {again[at].item()} the second"
        )


def _check_elementwise(activation: Activation, resolution: float) -> None:
    """Raises `ValueError` unless every output number depends on its own input number and on nothing else."""
    z = torch.linspace(-3.0, 3.0, 61, dtype=torch.float64)
    together = _evaluate(activation, z)
    alone = torch.cat([_evaluate(activation, part) for part in (z[:1], z[1:-1].flip(0), z[-1:])])
    alone = torch.cat([alone[:1], alone[1:-1].flip(0), alone[-1:]])
    # Vectorized and scalar code of a function may differ in the last digits.
    if not torch.allclose(together, alone, rtol=max(1e-9, 16 * resolution), atol=max(1e-12, resolution)):
        at = int((together - alone).abs().argmax())
        raise InputError(
            f"{_no_gain(activation)} it is not elementwise: at {z[at].item():g} it gives {together[at].item():g} "
            f"among other numbers and {alone[at].item():g} among fewer or in another order"
        )


@torch.no_grad()
def _output(activation: Activation, z: Tensor) -> Tensor:
    """The values of `activation` at `z`, in its own type. Raises `ValueError` if they are not real numbers."""
    try:
        out = activation(z.clone())  # a clone, since some work in place
    except Exception as error:  # user code may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{_no_gain(activation)} it fails on {list(z.shape)} numbers: {reason}") from error
    if not isinstance(out, Tensor) or out.is_complex():
        raise InputError(f"{_no_gain(activation)} it does not return a tensor of real numbers")
    if out.shape != z.shape:
        raise InputError(f"{_no_gain(activation)} {list(z.shape)} numbers become {list(out.shape)}")
    return out


def _evaluate(activation: Activation, z: Tensor) -> Tensor:
    """The values of `activation` at `z`, in float64. Raises `ValueError` unless all of them are finite."""
    out = _output(activation, z)
    values = out.double()
    if not (finite := values.isfinite()).all():
        at = int(finite.flatten().logical_not().nonzero()[0])
        value, place = values.flatten()[at].item(), z.flatten()[at].item()
        short = str(out.dtype).removeprefix("torch.")
        far = f": larger than {short} holds" if abs(place) > 3 and not math.isnan(value) else ""
        raise InputError(f"{_no_gain(activation)} it is {value} at {place:g}, not finite{far}")
    return values


def _gaussian_expectation(activation: Activation, function: Callable[[Tensor], Tensor], tolerance: float) -> float:
    """E[function(activation(z))], `z ~ N(0, 1)`: Gauss-Lobatto quadrature, halving intervals until it converges."""

    def integrals(left: Tensor, right: Tensor) -> Tensor:
        half = 0.5 * (right - left)
        z = torch.addcmul(0.5 * (left + right)[:, None], half[:, None], _NODES)
        values = function(_evaluate(activation, z.flatten()).view_as(z))
        return half * ((values * torch.exp(-0.5 * z * z)) @ _WEIGHTS) / math.sqrt(2.0 * math.pi)

    left, right, whole = _first_intervals(activation, integrals)
    scale = float(whole.abs().sum())
    good: list[float] = []
    while len(left):
        if len(left) > _MOST_INTERVALS:
            raise InputError(f"{_no_gain(activation)} it varies too fast for any quadrature")
        middle = 0.5 * (left + right)
        halves = torch.stack([integrals(left, middle), integrals(middle, right)])
        change = (halves.sum(0) - whole).abs()
        narrow = right - left < _NARROWEST * torch.clamp(left.abs(), min=1.0)
        if bool((poles := narrow & (halves.abs().sum(0) > _STEP * scale)).any()):
            raise InputError(f"{_no_gain(activation)} no finite variance: it has a pole at {float(left[poles][0]):g}")
        done = (change <= tolerance * scale) | narrow
        good += halves[:, done].flatten().tolist()
        left, right = torch.cat([left[~done], middle[~done]]), torch.cat([middle[~done], right[~done]])
        whole = halves[:, ~done].flatten()
    return math.fsum(good)


def _first_intervals(
    activation: Activation, integrals: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """The ends of the first intervals and the integral over each, as far out as the tails count."""
    reason = ""
    for reach in _REACHES:
        edges = torch.linspace(-reach, reach, int(2 * reach * _INTERVALS_PER_DEVIATION) + 1, dtype=torch.float64)
        try:
            whole = integrals(edges[:-1], edges[1:])
        except InputError as error:
            if not reason:
                raise
            if reason == _TOO_LONG:
                raise InputError(f"{error}, because of its tails") from None
            break
        scale = float(whole.abs().sum())
        if not scale < math.inf:
            reason = reason or _TOO_LARGE
            break
        if float(whole[[0, -1]].abs().sum()) <= _TAIL * scale:
            return edges[:-1], edges[1:], whole
        grows = bool((whole[[0, -1]].abs() >= whole[[1, -2]].abs()).any())
        reason = _GROWING if grows else _TOO_LONG
    raise InputError(f"{_no_gain(activation)} {reason}")


def _no_gain(activation: object) -> str:
    return f"activation {activation} has no usable gain:"
