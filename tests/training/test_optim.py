"""Learning rate, decay groups and the optimiser, against the formulas of the paper's recipe."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nfrepro.models import create
from nfrepro.training.optim import ema_decay, learning_rate, make_optimizer, parameter_groups
from nfrepro.training.options import TrainOptions

PAPER = TrainOptions()  # 90 epochs, batch 1024


def test_the_papers_schedule() -> None:
    steps = 1251  # 1,281,167 images in batches of 1,024
    assert PAPER.peak_lr == pytest.approx(0.4)
    assert learning_rate(0, steps, PAPER) == 0.0
    assert learning_rate(5 * steps, steps, PAPER) == pytest.approx(0.4)
    assert learning_rate(steps, steps, PAPER) == pytest.approx(0.4 / 5)
    halfway = 5 * steps + 85 * steps // 2
    assert learning_rate(halfway, steps, PAPER) == pytest.approx(0.2, rel=1e-4)
    assert 0 < learning_rate(90 * steps - 1, steps, PAPER) < 1e-8


@given(
    epochs=st.integers(1, 50),
    steps=st.integers(1, 200),
    batch=st.integers(1, 4096),
    warmup=st.floats(0, 0.9),
)
def test_the_schedule_rises_then_falls_and_never_exceeds_its_peak(
    epochs: int, steps: int, batch: int, warmup: float
) -> None:
    options = TrainOptions(epochs=epochs, batch_size=batch, lr_per_256=0.1, warmup_epochs=warmup * epochs)
    rates = [learning_rate(step, steps, options) for step in range(epochs * steps)]
    top = rates.index(max(rates))
    assert max(rates) <= 0.1 * batch / 256 * (1 + 1e-12)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert all(math.isfinite(rate) and rate >= 0 for rate in rates)


def test_the_cosine_ends_at_the_final_rate_of_the_authors_formula() -> None:
    options = TrainOptions(epochs=360, final_lr=0.001)  # NF-RegNets (code: optim.py, WarmupCosineDecay)
    steps, warmup, total = 1251, 5 * 1251, 360 * 1251
    for step in (warmup, warmup + 12345, total - 1):
        expected = 0.5 * (0.4 - 0.001) * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) + 0.001
        assert learning_rate(step, steps, options) == pytest.approx(expected, rel=1e-12)
    assert learning_rate(total - 1, steps, options) == pytest.approx(0.001, rel=1e-6)
    assert learning_rate(steps, steps, options) == learning_rate(steps, steps, PAPER)
    with pytest.raises(ValueError, match=r"final_lr \(0.5\) must be at most the peak rate \(0.4\)"):
        TrainOptions(final_lr=0.5)


def test_weights_decay_and_nothing_else_does() -> None:
    for family in ("nf_resnet", "bn_resnet"):
        model = create(family, blocks=[1, 1], width=0.125)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        decayed, free = ({names[id(p)] for p in group["params"]} for group in parameter_groups(model, 1e-4))  # type: ignore[attr-defined]
        assert decayed | free == set(names.values())
        assert not decayed & free
        assert all(name.endswith("weight") and ("conv" in name or "linear" in name) for name in decayed)
        assert {name for name in names.values() if "conv" in name and name.endswith("weight")} <= decayed
        assert "linear.weight" in decayed
        assert all("gain" in name or name.endswith("bias") or "norm" in name for name in free)


def test_all_decays_on_request() -> None:
    model = create("nf_resnet", blocks=[1, 1], width=0.125)
    optimizer = make_optimizer(model, TrainOptions(decay_norm_and_bias=True, weight_decay=0.01))
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] == 0.01 for p in group["params"]}
    assert decayed == {id(parameter) for parameter in model.parameters()}


def test_the_optimiser_is_nesterov_with_coupled_decay() -> None:
    layer = torch.nn.Linear(3, 2).double()
    options = TrainOptions(lr_per_256=0.7, batch_size=256, weight_decay=0.01)
    optimizer = make_optimizer(layer, options)
    weight, velocity = layer.weight.detach().clone(), torch.zeros(2, 3, dtype=torch.float64)
    for seed in range(4):
        gradient = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        layer.weight.grad, layer.bias.grad = gradient.clone(), torch.zeros(2, dtype=torch.float64)
        optimizer.step()
        decayed = gradient + 0.01 * weight
        velocity = 0.9 * velocity + decayed
        weight = weight - 0.7 * (decayed + 0.9 * velocity)
    torch.testing.assert_close(layer.weight.detach(), weight, rtol=1e-12, atol=1e-12)


def test_ema_decay_warms_up() -> None:
    assert ema_decay(0, 0.99999) == pytest.approx(0.1)
    assert ema_decay(90, 0.99999) == pytest.approx(0.91)
    assert ema_decay(10**7, 0.99999) == 0.99999


def test_warmup_longer_than_training_is_refused() -> None:
    with pytest.raises(ValueError, match=r"warmup_epochs \(5\) must be less than epochs \(2\)"):
        TrainOptions(epochs=2)
