"""The paper's theory of signal propagation, and measurements of a network's signal and of the smoothness of its loss.

The theory is the gain gamma of an activation and the expected variance of every block's input.
"""

from nfrepro.signal.activation_use import activation_use
from nfrepro.signal.beta import BlockScale, expected_variance
from nfrepro.signal.channel_statistics import input_correlation
from nfrepro.signal.declared_blocks import DeclaredBlock
from nfrepro.signal.gain import Moments, gain, moments
from nfrepro.signal.gradient_correlation import (
    GradientCorrelation,
    brown_noise,
    circle,
    gradient_correlation,
    input_gradients,
    white_noise,
)
from nfrepro.signal.landscape import Landscape, landscape, random_directions
from nfrepro.signal.layer_inputs import layer_inputs, moment_shift
from nfrepro.signal.long_form import STATISTICS, long_form
from nfrepro.signal.prediction import NetworkDescription, predict
from nfrepro.signal.propagation import propagation
from nfrepro.signal.smoothness import Smoothness, smoothness

__all__ = [
    "STATISTICS",
    "BlockScale",
    "DeclaredBlock",
    "GradientCorrelation",
    "Landscape",
    "Moments",
    "NetworkDescription",
    "Smoothness",
    "activation_use",
    "brown_noise",
    "circle",
    "expected_variance",
    "gain",
    "gradient_correlation",
    "input_correlation",
    "input_gradients",
    "landscape",
    "layer_inputs",
    "long_form",
    "moment_shift",
    "moments",
    "predict",
    "propagation",
    "random_directions",
    "smoothness",
    "white_noise",
]
