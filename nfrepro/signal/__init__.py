"""The paper's theory as functions: the gain gamma of an activation, the expected variance of every block's input; and
what a network's signal does in fact."""

from nfrepro.signal.gain import Moments, gain, moments
from nfrepro.signal.input_correlation import input_correlation
from nfrepro.signal.ledger import BlockScale, expected_variance
from nfrepro.signal.long_form import STATISTICS, long_form
from nfrepro.signal.prediction import NetworkDescription, predict
from nfrepro.signal.propagation import propagation

__all__ = [
    "STATISTICS",
    "BlockScale",
    "Moments",
    "NetworkDescription",
    "expected_variance",
    "gain",
    "input_correlation",
    "long_form",
    "moments",
    "predict",
    "propagation",
]
