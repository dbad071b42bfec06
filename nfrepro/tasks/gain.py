"""Task `gain`: the constant gamma of one activation, obtained in three ways (paper section 4.3 and appendix D)."""

import statistics

import torch

from nfrepro.models.activations import ACTIVATIONS
from nfrepro.seeding import stream_seed
from nfrepro.signal import moments
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.options import GainTask
from nfrepro.training.context import RunContext


def run(task: GainTask, ctx: RunContext) -> Outcome:
    """Computes gamma by quadrature and by sampling as in the paper (which uses the seed); gives the published one."""
    activation = ACTIVATIONS[task.activation]
    # If g mixes channels, the mean and variance of one number say nothing.
    exact = moments(activation.function) if activation.elementwise else None
    published = activation.published_gain
    gamma, (sampled, standard_error) = activation.gamma("exact"), _sampled_gain(task)
    return Outcome(
        "completed",
        {
            "mean": exact.mean if exact else None,
            "variance": exact.variance if exact else None,
            "std": exact.variance**0.5 if exact else None,
            "gamma": gamma,
            "gamma_published": published,
            "published_error": None if published is None else abs(published / gamma - 1.0),
            "gamma_sampled": sampled,
            "sampled_error": abs(sampled / gamma - 1.0),
            "sampled_error_in_standard_errors": abs(sampled - gamma) / standard_error if standard_error else None,
        },
    )


def _sampled_gain(task: GainTask) -> tuple[float, float]:
    """Gamma as in appendix D, the inverse root of the variance of g averaged over Gaussian vectors, and its error.

    The standard error is to first order in that of the average: 0 for a single vector.
    """
    generator = torch.Generator().manual_seed(stream_seed("gain", task.seed))
    function = ACTIVATIONS[task.activation].function
    variances = []
    for _ in range(task.vectors):
        vector = torch.randn(1, task.length, 1, 1, generator=generator, dtype=torch.float64)
        variances.append(float(function(vector).var(correction=1)))
    average = sum(variances) / task.vectors
    error = statistics.stdev(variances) / task.vectors**0.5 if task.vectors > 1 else 0.0
    return average**-0.5, 0.5 * average**-1.5 * error
