"""Task `layer_moments`: Monte Carlo mean and variance of the outputs of one layer, against the closed forms.

For z = W g(x): E z_i = N mu_g mu_Wi and Var z_i = N sigma_g^2 (sigma_Wi^2 + mu_Wi^2) (paper section 4.1); with scaled
weight standardization they are 0 and gamma^2 sigma_g^2 = 1 (section 4.2).
"""

import torch
from torch import Tensor

from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.convolutions import Standardization, standardize
from nfrepro.seeding import stream_seed
from nfrepro.signal import moments
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.options import LayerMomentsTask
from nfrepro.training.context import RunContext

CHUNK = 4096  # vectors at a time


def run(task: LayerMomentsTask, ctx: RunContext) -> Outcome:
    """Compares moments over all outputs at once: a single one would show little but the noise of its estimate."""
    torch.manual_seed(stream_seed("weights", task.seed))
    weight = _weights(task)
    mean, variance = _monte_carlo(weight, task)
    expected_mean, expected_variance = _closed_forms(weight, task)
    scale = expected_variance.mean()
    return Outcome(
        "completed",
        {
            "mean_squared_mean": float(mean.square().mean()),
            "expected_mean_squared_mean": float(expected_mean.square().mean()),
            "mean_variance": float(variance.mean()),
            "expected_mean_variance": float(scale),
            # In units of the outputs' standard deviation.
            "mean_error": float((mean - expected_mean).square().mean().sqrt() / scale.sqrt()),
            "variance_error": float(abs(variance.mean() / scale - 1.0)),
            "largest_absolute_mean": float(mean.abs().max()),
        },
    )


def _weights(task: LayerMomentsTask) -> Tensor:
    """The weights of the layer, float64 [fan_out, fan_in]."""
    std = (task.weight_variance / task.fan_in) ** 0.5
    weight: Tensor = std * (torch.randn(task.fan_out, task.fan_in, dtype=torch.float64) + task.weight_mean)
    if task.weights == "plain":
        return weight
    gamma = moments(ACTIVATIONS[task.activation].function).gain
    gain = torch.full((task.fan_out,), gamma, dtype=torch.float64)
    standardized: Tensor = standardize(weight[:, :, None, None], gain, Standardization())
    return standardized[:, :, 0, 0]


def _monte_carlo(weight: Tensor, task: LayerMomentsTask) -> tuple[Tensor, Tensor]:
    """Mean and population variance of each output over `samples` vectors x."""
    generator = torch.Generator().manual_seed(stream_seed("inputs", task.seed))
    function = ACTIVATIONS[task.activation].function
    total = torch.zeros(task.fan_out, dtype=torch.float64)
    squares = torch.zeros(task.fan_out, dtype=torch.float64)
    for start in range(0, task.samples, CHUNK):
        count = min(CHUNK, task.samples - start)
        x = torch.randn(count, task.fan_in, generator=generator, dtype=torch.float64)
        z = function(x) @ weight.T
        total += z.sum(0)
        squares += z.square().sum(0)
    mean = total / task.samples
    return mean, squares / task.samples - mean.square()


def _closed_forms(weight: Tensor, task: LayerMomentsTask) -> tuple[Tensor, Tensor]:
    """E z_i and Var z_i from the moments of g and of each row of W."""
    of_g = moments(ACTIVATIONS[task.activation].function)
    row_mean, row_variance = weight.mean(1), weight.var(1, correction=0)
    fan_in = weight.shape[1]
    return fan_in * of_g.mean * row_mean, fan_in * of_g.variance * (row_variance + row_mean.square())
