"""Ranks of labels among logits: by sorting, with ties and with NaN; and sums over batches."""

import math

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nfrepro.training.callbacks import steps_between_looks
from nfrepro.training.evaluation import evaluate, ranks


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, math.inf, -math.inf]), min_size=1, max_size=8), st.data())
def test_rank_is_the_place_in_a_stable_sort(values: list[float], data: st.DataObject) -> None:
    label = data.draw(st.integers(0, len(values) - 1))
    order = sorted(range(len(values)), key=lambda number: (-values[number], number))
    assert ranks(torch.tensor([values]), torch.tensor([label])).item() == order.index(label)


def test_nothing_is_right_where_a_logit_is_not_a_number() -> None:
    logits = torch.tensor([[math.nan, 1.0, 0.0], [1.0, math.nan, 0.0]])
    assert ranks(logits, torch.tensor([0, 0])).tolist() == [3, 1]


def test_evaluation_adds_up_over_batches_of_different_size() -> None:
    torch.manual_seed(0)
    model, x, labels = nn.Sequential(nn.Flatten(), nn.Linear(12, 8)), torch.randn(11, 3, 2, 2), torch.randint(8, (11,))
    batches = [(x[:4], labels[:4]), (x[4:8], labels[4:8]), (x[8:], labels[8:])]
    found = evaluate(model, batches, torch.autocast("cpu", torch.bfloat16, enabled=False))
    logits = model(x)
    best = logits.topk(5).indices == labels[:, None]
    assert found.images == 11
    assert math.isclose(found.loss, F.cross_entropy(logits, labels).item(), rel_tol=1e-6)
    assert math.isclose(found.top1, 100 * best[:, 0].float().mean().item(), rel_tol=1e-6)
    assert math.isclose(found.top5, 100 * best.any(1).float().mean().item(), rel_tol=1e-6)
    assert model.training


@given(st.floats(1e-4, 100.0))
def test_a_gpu_is_looked_at_about_every_second(seconds_of_step: float) -> None:
    steps = steps_between_looks(seconds_of_step)
    assert 1 <= steps <= 20
    assert steps == 1 or steps * seconds_of_step <= 1.0
    assert steps == 20 or (steps + 1) * seconds_of_step > 1.0
