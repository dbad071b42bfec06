"""The rule by which a run has diverged: its first loss that is not finite, in training or on the test split, ends it.

Training losses are checked at every look of `callbacks.Observer`, test losses in `loop.fit`. A weight average whose
test loss is not finite does not end a run: its number is left empty. Nor does a bad accuracy: what counts as a
collapsed run is for the claims to define.
"""

import math


class Diverged(Exception):
    """A loss was not finite; `step` counts from 1."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss of step {step} is not finite")
        self.step = step


def require_finite(loss: float, step: int) -> None:
    """Raises `Diverged` if `loss`, that of optimiser step `step` or the test loss after it, is not finite."""
    if not math.isfinite(loss):
        raise Diverged(step)
