"""The expected variance of every block's input; its square root is the paper's beta (section 4; code: nf_resnet.py).

Inside a stage each residual block adds `alpha^2` to the variance of the signal. The first block of a stage is a
transition block: its shortcut sees the activated signal divided by beta, which puts the variance back to 1, and the
block's own branch then adds `alpha^2` again. The transition block itself still receives the variance that the previous
stage accumulated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BlockScale:
    """The expected variances of one residual block."""

    stage: int  # from 0
    transition: bool  # first block of its stage
    input_variance: float  # expected variance of the block's input x_l
    output_variance: float  # expected variance of its output x_{l+1}

    @property
    def beta(self) -> float:
        """The divisor beta_l = sqrt(Var(x_l)) of the paper. (The authors' code passes its inverse and multiplies.)"""
        return math.sqrt(self.input_variance)


def expected_variance(blocks: Sequence[int], alpha: float, reset: bool = True) -> list[list[BlockScale]]:
    """The expected variances of a network with `blocks[i]` residual blocks in stage `i`, stage by stage.

    Without `reset`, transition blocks keep the accumulated variance, like all other blocks (an ablation).
    """
    stages: list[list[BlockScale]] = []
    variance = 1.0
    for stage, count in enumerate(blocks):
        stages.append([])
        for index in range(count):
            transition = index == 0
            output = (1.0 if transition and reset else variance) + alpha**2
            stages[-1].append(BlockScale(stage, transition, variance, output))
            variance = output
    return stages
