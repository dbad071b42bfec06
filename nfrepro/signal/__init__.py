"""The paper's theory as functions: the gain gamma of an activation, the expected variance of every block's input."""

from nfrepro.signal.gain import Moments, gain, moments
from nfrepro.signal.ledger import BlockScale, expected_variance

__all__ = ["BlockScale", "Moments", "expected_variance", "gain", "moments"]
