"""The gain gamma of an activation (paper section 4.3 and appendix D), by quadrature instead of sampling."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.integrate import quad_vec
from torch import Tensor

Activation = Callable[[Tensor], Tensor]

# Beyond 14 standard deviations the Gaussian weighs less than 1e-43: nothing an activation does there is seen.
_REACH = 14.0


@dataclass(frozen=True)
class Moments:
    """Mean and variance of `g(z)` for `z ~ N(0, 1)`: the paper's mu_g and sigma_g squared."""

    mean: float
    variance: float

    @property
    def gain(self) -> float:
        """gamma = 1 / sigma_g."""
        return 1.0 / math.sqrt(self.variance)


@cache
def moments(activation: Activation) -> Moments:
    """Mean and variance of an elementwise `activation` under a standard Gaussian, in float64.

    Raises `ValueError` where there is no finite, positive variance: a constant function, or one that overflows.
    """
    mean = _gaussian_expectation(lambda z: _evaluate(activation, z))
    variance = _gaussian_expectation(lambda z: (_evaluate(activation, z) - mean) ** 2)
    if not 1e-20 < variance < math.inf:
        raise ValueError(f"activation {activation} has no usable gain: mean {mean}, variance {variance} under N(0, 1)")
    return Moments(mean, variance)


def gain(activation: Activation) -> float:
    """gamma = 1 / sqrt(Var(g(z))), `z ~ N(0, 1)`: scales `g` to unit variance. ReLU: sqrt(2 / (1 - 1/pi))."""
    return moments(activation).gain


def _evaluate(activation: Activation, z: float) -> float:
    value = float(activation(torch.tensor([z], dtype=torch.float64))[0])
    if not math.isfinite(value):
        raise ValueError(f"activation {activation} has no usable gain: it is {value} at {z:g}")
    return value


def _gaussian_expectation(function: Callable[[float], float]) -> float:
    """E[function(z)], `z ~ N(0, 1)`, by adaptive Gauss-Kronrod; the kink that many activations have at 0 is an edge."""
    density = 1.0 / math.sqrt(2.0 * math.pi)
    integral, _ = quad_vec(
        lambda z: np.array([function(z) * density * math.exp(-0.5 * z * z)]),
        -_REACH,
        _REACH,
        points=[0.0],
        epsabs=1e-13,
        epsrel=1e-13,
        limit=2000,
    )
    return float(integral[0])
