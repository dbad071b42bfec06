"""The expected variances against the table of the paper's networks (betas as the authors' code makes them)."""

import pytest

from nfrepro.signal import expected_variance


def test_resnet50() -> None:
    stages = expected_variance((3, 4, 6, 3), 0.2)
    betas = [[round(block.beta, 4) for block in stage] for stage in stages]
    assert betas[0] == [1.0, 1.0198, 1.0392]
    assert betas[1] == [1.0583, 1.0198, 1.0392, 1.0583]  # the transition block is fed with what stage 1 accumulated
    assert [round(stage[-1].output_variance, 4) for stage in stages] == [1.12, 1.16, 1.24, 1.12]
    assert [block.transition for block in stages[0]] == [True, False, False]


@pytest.mark.parametrize(
    ("blocks", "alpha", "variance", "last_beta", "transition_beta"),
    [(24, 0.2, 1.96, 1.3856, 1.4), (50, 0.2, 3.0, 1.7205, 1.7321), (50, 1.0, 51.0, 7.0711, 7.1414)],
)
def test_deep_networks(blocks: int, alpha: float, variance: float, last_beta: float, transition_beta: float) -> None:
    stages = expected_variance([blocks] * 4, alpha)
    assert [round(stage[-1].output_variance, 6) for stage in stages] == [variance] * 4
    assert [round(stage[-1].beta, 4) for stage in stages] == [last_beta] * 4
    assert [round(stage[0].beta, 4) for stage in stages] == [1.0] + [transition_beta] * 3
