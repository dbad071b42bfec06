"""Adaptive gradient clipping: against its formula, against timm's, and in the loop."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from timm.utils.agc import adaptive_clip_grad
from torch import Tensor, nn

from nfrepro.data.batches import train_batches
from nfrepro.data.sources import load
from nfrepro.models import create
from nfrepro.tasks.options import TrainTask
from nfrepro.tasks.train import initial_model
from nfrepro.tasks.watched_training import run
from nfrepro.training.agc import clip_gradients, clipped_parameters
from nfrepro.training.context import RunContext
from nfrepro.training.optim import learning_rate, make_optimizer
from nfrepro.training.options import TrainOptions

SHAPES = st.lists(st.integers(1, 4), min_size=0, max_size=4)


def with_gradient(value: Tensor, gradient: Tensor) -> nn.Parameter:
    parameter = nn.Parameter(value.clone())
    parameter.grad = gradient.clone()
    return parameter


def units(x: Tensor) -> Tensor:
    """A row for every unit: an output of a weight, or a vector or scalar as a whole."""
    return x.reshape(1, -1) if x.ndim <= 1 else x.flatten(1)


@given(
    shape=SHAPES,
    clip_factor=st.floats(0.01, 0.16),
    weight_scale=st.floats(0, 10),
    gradient_scale=st.floats(1e-6, 1e3),
    seed=st.integers(0, 2**31 - 1),
)
def test_gradients_end_within_their_bound_and_others_keep_their_bits(
    shape: list[int], clip_factor: float, weight_scale: float, gradient_scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, gradient = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    weight, gradient = weight * weight_scale, gradient * gradient_scale
    parameter = with_gradient(weight, gradient)
    clip_gradients([parameter], clip_factor)
    assert parameter.grad is not None
    assert torch.equal(parameter, weight)
    rows = zip(units(weight), units(gradient), units(parameter.grad), strict=True)
    for w, before, after in rows:
        bound = clip_factor * max(w.square().sum().sqrt().item(), 1e-3)
        norm = before.square().sum().sqrt().item()
        assert after.norm().item() <= bound * (1 + 1e-12)
        if norm < bound * (1 - 1e-12):
            assert torch.equal(after, before)
        else:
            torch.testing.assert_close(after, before * (bound / norm), rtol=1e-12, atol=0)


def test_equals_timms_on_a_network() -> None:
    torch.manual_seed(0)
    ours: Any = create("nf_regnet_b0", width=0.25, skipinit_gain=1.0, stochastic_depth=0.0, num_classes=5)
    nn.init.normal_(ours.linear.weight)
    ours(torch.randn(4, 3, 32, 32)).square().sum().backward()
    before = {name: parameter.grad.clone() for name, parameter in ours.named_parameters()}
    theirs = copy.deepcopy(ours)
    for mine, copied in zip(ours.parameters(), theirs.parameters(), strict=True):
        copied.grad = mine.grad.clone()
    clip_gradients(clipped_parameters(ours), 0.02)
    adaptive_clip_grad([p for name, p in theirs.named_parameters() if not name.startswith("linear.")], 0.02)
    changed = 0
    for (name, mine), copied in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, copied.grad, rtol=1e-5, atol=0, msg=name)
        if name.startswith("linear."):
            assert torch.equal(mine.grad, before[name])
        changed += not torch.equal(mine.grad, before[name])
    assert changed > 50


def test_vectors_and_scalars_are_one_unit() -> None:
    vector = with_gradient(torch.tensor([3.0, 4.0]), torch.tensor([30.0, 40.0]))
    scalar = with_gradient(torch.tensor(0.0), torch.tensor(-2.0))
    without = nn.Parameter(torch.ones(2))
    clip_gradients([vector, without, scalar], 0.1)
    assert vector.grad is not None
    assert scalar.grad is not None
    torch.testing.assert_close(vector.grad, torch.tensor([0.3, 0.4]))
    torch.testing.assert_close(scalar.grad, torch.tensor(-1e-4))  # 0.1 of the floor 1e-3
    assert without.grad is None
    clip_gradients([without], 0.1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_stays_so(bad: float) -> None:
    parameter = with_gradient(torch.ones(2, 2), torch.tensor([[bad, 1.0], [100.0, 0.0]]))
    clip_gradients([parameter], 0.1)
    assert parameter.grad is not None
    assert not parameter.grad[0].isfinite().all()
    torch.testing.assert_close(parameter.grad[1], torch.tensor([0.1 * 2**0.5, 0.0]))


def test_zero_gradients_stay_zero() -> None:
    parameter = with_gradient(torch.zeros(2, 2), torch.zeros(2, 2))
    clip_gradients([parameter], 0.01)
    assert parameter.grad is not None
    assert not parameter.grad.any()


def test_only_the_classifier_is_left_out() -> None:
    for name in ("nf_resnet26", "bn_resnet26", "nf_regnet_b0", "nfnet_f0"):
        with torch.device("meta"):
            model = create(name)
        clipped = {id(parameter) for parameter in clipped_parameters(model)}
        assert {n for n, p in model.named_parameters() if id(p) not in clipped} == {"linear.weight", "linear.bias"}


def task(**train: Any) -> TrainTask:
    return TrainTask.model_validate(
        {
            "seed": 3,
            "data": {"name": "synthetic", "classes": 4, "pixels": 8, "train_images": 32, "test_images": 8},
            "model": {"name": "nf_resnet", "blocks": [1, 1], "width": 0.0625, "stem": "small"},
            "train": {"epochs": 2, "batch_size": 16, "lr_per_256": 4.0, "warmup_epochs": 0.0, **train},
        }
    )


def train_losses(options: TrainTask, folder: Path) -> list[float]:
    """The training loss of each epoch, as the loop reports it."""
    folder.mkdir()
    torch.set_num_threads(1)
    run(options, RunContext(folder, "cpu")).discard_unfinished()
    return [json.loads(line)["train_loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_loop_clips_as_timm_does_between_backward_and_step(tmp_path: Path) -> None:
    options = task(clip_factor=0.02)
    dataset = load(options.data)
    model: Any = initial_model(options, dataset).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, options.train)
    clipped = [parameter for name, parameter in model.named_parameters() if not name.startswith("linear.")]
    losses, step = [], 0
    for epoch in range(2):
        losses.append(0.0)
        for x, labels in train_batches(dataset, options.data, 16, options.seed, epoch):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, 2, options.train)
            loss = F.cross_entropy(model(x), labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            adaptive_clip_grad(clipped, 0.02)
            optimizer.step()
            losses[-1] += loss.item() / 2
            step += 1
    found = train_losses(options, tmp_path / "clipped")
    assert found == pytest.approx(losses, rel=1e-5)
    assert found != pytest.approx(train_losses(task(), tmp_path / "free"), rel=1e-3)


def test_a_bound_that_nothing_reaches_changes_no_bit(tmp_path: Path) -> None:
    free, bounded = task(), task(clip_factor=1e9)
    assert train_losses(free, tmp_path / "free") == train_losses(bounded, tmp_path / "bounded")


def test_a_clip_factor_is_positive() -> None:
    assert TrainOptions().clip_factor is None
    with pytest.raises(ValueError, match="clip_factor"):
        TrainOptions(clip_factor=0.0)
