"""The rule by which a run has diverged: its first loss that is not finite, in training or on the test split, ends it.

Losses that training has seen are asked at every look of `callbacks.Observer`, those of an evaluation in `loop.fit`. A
weight average whose test loss is not finite ends nothing: its number is left empty. Neither does a bad accuracy: what
counts as a collapsed run is the claims' question.
"""

import math


class Diverged(Exception):
    """A loss was not finite; `step` counts from 1."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss of step {step} is not finite")
        self.step = step


def require_finite(loss: float, step: int) -> None:
    """Raises `Diverged` for the `loss` of, or the test loss after, an optimiser step."""
    if not math.isfinite(loss):
        raise Diverged(step)
