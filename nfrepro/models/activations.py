"""Activations with their gains gamma (paper section 4.3; code: base.py, nonlinearities)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from nfrepro.signal import gain


@dataclass(frozen=True)
class Activation:
    """An elementwise nonlinearity and the gain the authors published for it (found by sampling)."""

    function: Callable[[Tensor], Tensor]
    published_gain: float

    def gamma(self, source: Literal["published", "exact"]) -> float:
        """The authors' constant, or the exact one by quadrature; they differ by 0.1 % at most."""
        return self.published_gain if source == "published" else gain(self.function)


def _identity(x: Tensor) -> Tensor:
    return x


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(_identity, 1.0),
    "relu": Activation(F.relu, 1.7139588594436646),
    "silu": Activation(F.silu, 1.7881293296813965),
    "gelu": Activation(partial(F.gelu, approximate="tanh"), 1.7015043497085571),
    "leaky_relu": Activation(F.leaky_relu, 1.70590341091156),
    "relu6": Activation(F.relu6, 1.7131484746932983),
    "elu": Activation(F.elu, 1.2716004848480225),
    "celu": Activation(F.celu, 1.270926833152771),
    "selu": Activation(F.selu, 1.0008515119552612),
    "tanh": Activation(F.tanh, 1.5939117670059204),
    "sigmoid": Activation(F.sigmoid, 4.803835391998291),
    "softplus": Activation(F.softplus, 1.9203323125839233),
    "log_sigmoid": Activation(F.logsigmoid, 1.9193484783172607),
    "soft_sign": Activation(F.softsign, 2.338853120803833),
}
