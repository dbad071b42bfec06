"""Running averages of BatchNorm, estimated again on clean images."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nfrepro.tasks.batch_norm_noise import BatchNormNoise
from nfrepro.training.batch_norm import reestimate_averages

CPU = torch.autocast("cpu", enabled=False)


def batches(count: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 3, 4, 4, generator=generator), torch.zeros(8)) for _ in range(count)]


def test_the_averages_are_the_means_over_batches() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5, momentum=0.3), nn.Dropout(0.9))
    norm: Any = model[1]
    norm.running_mean.fill_(7.0)
    before = [parameter.clone() for parameter in model.parameters()]
    reestimate_averages(model, batches(), CPU)
    with torch.no_grad():
        seen = [model[0](x) for x, _ in batches()]
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0))
    assert norm.momentum == 0.3
    assert all(module.training for module in model.modules())
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_noise_of_training_is_in_the_old_averages_and_not_in_the_new(strength: float) -> None:
    """The second BatchNorm sees the noise behind the first one: clean averages are those of a twin without noise."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5))
    twin = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5))
    twin.load_state_dict(model.state_dict())
    noise = BatchNormNoise(model, strength, seed=0)
    for step, (x, _) in enumerate(batches(20)):
        noise.before_step(step)
        model(x)
        twin(x)
    second: Any = model[2]
    clean: Any = twin[2]
    assert torch.allclose(second.running_var, clean.running_var, rtol=1e-3) == (strength == 0.0)
    noise.strength = 0.0
    for network in (model, twin):
        reestimate_averages(network, batches(), CPU)
    torch.testing.assert_close(second.running_mean, clean.running_mean)
    torch.testing.assert_close(second.running_var, clean.running_var)
