"""One optimiser step: micro-batches against whole batches, ghost statistics, soft targets and the weight average."""

import copy
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nfrepro.models import create
from nfrepro.training.cuda_graph import may_be_recorded
from nfrepro.training.distributed import Processes
from nfrepro.training.ema import WeightAverage
from nfrepro.training.gradients import GradientSum
from nfrepro.training.optim import ema_decay, make_optimizer
from nfrepro.training.options import TrainOptions
from nfrepro.training.state import TrainingState
from nfrepro.training.step import Trainer, cut

SMALL: dict[str, Any] = {"blocks": [1, 1], "width": 0.0625, "stem": "small", "num_classes": 4}
FLOAT64 = torch.autocast("cpu", torch.bfloat16, enabled=False)


def options(**changes: Any) -> TrainOptions:
    settings: dict[str, Any] = {"epochs": 1, "batch_size": 12, "lr_per_256": 4.0, "warmup_epochs": 0.0}
    return TrainOptions.model_validate(settings | changes)


def network(name: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    return create(name, **SMALL | changes).double().train()


def begin(model: nn.Module, options: TrainOptions) -> Trainer:
    average = None if options.ema_decay is None else WeightAverage(model)
    state = TrainingState(model, average, make_optimizer(model, options))
    return Trainer(state, options, seed=3, processes=Processes())


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(12, 3, 8, 8, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (12,), generator=generator)


def train(model: nn.Module, options: TrainOptions, steps: int = 4) -> tuple[TrainingState, list[Tensor]]:
    trainer = begin(model, options)
    found = [trainer.step(*batch(step), FLOAT64) for step in range(steps)]
    return trainer.state, found


def assert_same(a: nn.Module, b: nn.Module) -> None:
    for (name, mine), other in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("grad_accum_steps", [2, 3, 12])
@pytest.mark.parametrize("name", ["nf_resnet", "skipinit_resnet", "fixup_resnet"])
def test_without_batch_norm_micro_batches_change_nothing(name: str, grad_accum_steps: int) -> None:
    settings = {"clip_factor": 0.05, "ema_decay": 0.9, "weight_decay": 1e-2}
    whole, found = train(network(name), options(**settings))
    cut, parts = train(network(name), options(**settings, grad_accum_steps=grad_accum_steps))
    assert_same(whole.model, cut.model)
    assert whole.ema is not None
    assert cut.ema is not None
    assert_same(whole.ema.model, cut.ema.model)
    torch.testing.assert_close(torch.stack(parts), torch.stack(found), rtol=1e-10, atol=1e-12)
    assert not torch.equal(whole.model.linear.weight, network(name).linear.weight)  # type: ignore[union-attr]


def test_batch_norm_has_the_statistics_of_a_part() -> None:
    """Against the sum over the parts written out, each with a copy of the network as it was before the step."""
    settings = options(grad_accum_steps=3, ema_decay=0.9)
    reference = network("bn_resnet")
    optimizer = make_optimizer(reference, settings)
    trained, _ = train(network("bn_resnet"), settings)
    for step in range(4):
        x, labels = batch(step)
        optimizer.zero_grad()
        after = []
        for part in range(3):
            alone = copy.deepcopy(reference)
            rows = slice(4 * part, 4 * part + 4)
            loss = F.cross_entropy(alone(x[rows]), labels[rows], label_smoothing=0.1) / 3
            gradients = torch.autograd.grad(loss, list(alone.parameters()))
            for parameter, gradient in zip(reference.parameters(), gradients, strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
            after.append(dict(alone.named_buffers()))
        for name, buffer in reference.named_buffers():
            values = torch.stack([buffers[name] for buffers in after])
            buffer.copy_(values.mean(0) if buffer.is_floating_point() else values[0])
        optimizer.step()
    assert_same(trained.model, reference)
    whole, _ = train(network("bn_resnet"), options())
    assert not torch.allclose(whole.model.linear.weight, reference.linear.weight, rtol=1e-3)  # type: ignore[union-attr]


def test_dropout_draws_depend_on_the_part_alone() -> None:
    name, settings = "nf_resnet", options(grad_accum_steps=2)
    results = []
    for before in (1, 2):
        model = network(name, dropout=0.5, stochastic_depth=0.5, skipinit_gain=1.0)
        trainer = begin(model, settings)
        for step in range(2):
            torch.manual_seed(before)  # whatever was drawn meanwhile
            trainer.step(*batch(step), FLOAT64)
        results.append(copy.deepcopy(model.state_dict()))
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])


def test_soft_targets_are_a_smoothed_mixture() -> None:
    targets = torch.rand(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets /= targets.sum(1, keepdim=True)
    for smoothing in (0.0, 0.1):
        for grad_accum_steps in (1, 3):
            settings = options(label_smoothing=smoothing, grad_accum_steps=grad_accum_steps)
            model = network("nf_resnet")
            x, _ = batch(0)
            logits = copy.deepcopy(model)(x)
            smoothed = (1 - smoothing) * targets + smoothing / 4
            loss = -(smoothed * logits.log_softmax(1)).sum(1).mean()
            right = (logits.argmax(1) == targets.argmax(1)).sum()
            found = begin(model, settings).step(x, targets, FLOAT64)
            torch.testing.assert_close(found, torch.stack([loss, right.double()]), rtol=1e-10, atol=0)


def test_one_hot_targets_train_as_their_labels() -> None:
    settings = options()
    by_label, by_target = network("nf_resnet"), network("nf_resnet")
    x, labels = batch(0)
    begin(by_label, settings).step(x, labels, FLOAT64)
    begin(by_target, settings).step(x, F.one_hot(labels, 4).double(), FLOAT64)
    assert_same(by_label, by_target)


def test_the_average_follows_the_authors_recursion() -> None:
    """From the initial weights on, with decay min(0.5, (1 + t) / (10 + t)) at step t = 0, 1, …; statistics too."""
    settings = options(ema_decay=0.5)
    model = network("bn_resnet")
    trainer = begin(model, settings)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(12):
        trainer.step(*batch(step), FLOAT64)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            mixed = decay * expected[name] + (1 - decay) * value
            expected[name] = mixed if value.is_floating_point() else value.clone()
    assert ema_decay(7, 0.5) < 0.5 == ema_decay(8, 0.5)
    average = trainer.state.ema
    assert average is not None
    for name, value in average.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-12)
    assert not any(parameter.requires_grad for parameter in average.model.parameters())


@given(data=st.data(), size=st.integers(1, 8), grad_accum_steps=st.integers(1, 8))
def test_rows_are_cut_where_micro_batches_are(data: st.DataObject, size: int, grad_accum_steps: int) -> None:
    total = size * grad_accum_steps
    start = data.draw(st.integers(0, total - 1))
    stop = data.draw(st.integers(start + 1, total))
    settings = options(batch_size=total, grad_accum_steps=grad_accum_steps, lr_per_256=1.0)
    found = []
    for part in cut(settings, range(start, stop)):
        rows = list(range(start, stop))[part.rows]
        assert rows
        assert {row // size for row in rows} == {part.number}
        assert rows[0] % size == part.first
        found += rows
    assert found == list(range(start, stop))


def test_batches_divide_into_micro_batches() -> None:
    with pytest.raises(ValueError, match=r"batch_size \(12\) must be a multiple of grad_accum_steps \(5\)"):
        options(grad_accum_steps=5)


def test_tied_weights_are_averaged_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.other.weight = self.one.weight

    model = Tied()
    nn.init.zeros_(model.one.weight)
    average = WeightAverage(model)
    nn.init.ones_(model.one.weight)
    average.update(model, 0.9)
    for layer in (average.model.one, average.model.other):
        assert isinstance(layer, nn.Linear)
        torch.testing.assert_close(layer.weight, torch.full((2, 2), 0.1))


def test_parameters_that_are_not_trained_take_part_in_no_sum() -> None:
    """The hooks that announce gradients cannot be attached to them."""
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    sums = GradientSum(layer.parameters(), Processes(0, 2))
    assert [parameter is layer.weight for bucket in sums.buckets for parameter in bucket] == [True]
    assert GradientSum(layer.requires_grad_(False).parameters(), Processes(0, 2)).buckets == []


def test_an_optimizer_of_ones_own_is_not_recorded() -> None:
    """A graph would repeat what its Python did once. As if on a GPU, where alone steps are recorded."""

    class Own(torch.optim.SGD):
        pass

    model = create("nf_resnet", blocks=[1], width=0.0625, stem="small")
    on_gpu = mock.patch.object(nn.Parameter, "is_cuda", True, create=True)
    for optimizer, recorded in (
        (torch.optim.SGD(model.parameters(), lr=0.1, fused=True), True),
        (torch.optim.SGD(model.parameters(), lr=0.1), False),
        (Own(model.parameters(), lr=0.1, fused=True), False),
        (torch.optim.AdamW(model.parameters(), lr=0.1, fused=True), False),
    ):
        with on_gpu:
            assert may_be_recorded(model, optimizer, parts=1, processes=1) is recorded
