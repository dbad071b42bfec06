"""Checks the claims of "Characterizing signal propagation to close the performance gap in unnormalized ResNets"."""

__version__ = "0.2.0"
