"""The paper's theory as functions: the gain gamma of an activation, the expected variance of every block's input; and
what a network's signal does in fact."""

from nfrepro.signal.gain import Moments, gain, moments
from nfrepro.signal.gradient_correlation import (
    GradientCorrelation,
    brown_noise,
    circle,
    gradient_correlation,
    input_gradients,
    white_noise,
)
from nfrepro.signal.input_correlation import input_correlation
from nfrepro.signal.ledger import BlockScale, expected_variance
from nfrepro.signal.long_form import STATISTICS, long_form
from nfrepro.signal.prediction import NetworkDescription, predict
from nfrepro.signal.propagation import propagation

__all__ = [
    "STATISTICS",
    "BlockScale",
    "GradientCorrelation",
    "Moments",
    "NetworkDescription",
    "brown_noise",
    "circle",
    "expected_variance",
    "gain",
    "gradient_correlation",
    "input_correlation",
    "input_gradients",
    "long_form",
    "moments",
    "predict",
    "propagation",
    "white_noise",
]
