"""The loop: against a plain loop written out here, divergence, and interruption at every single step."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nfrepro.data.batches import train_batches
from nfrepro.data.sources import load
from nfrepro.models.registry import build
from nfrepro.seeding import stream_seed
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.options import TrainTask
from nfrepro.tasks.train import initial_model
from nfrepro.tasks.watched_training import run
from nfrepro.training import loop
from nfrepro.training.context import Interrupted, Progress, RunContext
from nfrepro.training.optim import learning_rate
from nfrepro.training.precision import is_emulated

needs_bfloat16 = pytest.mark.skipif(
    is_emulated("bfloat16", "cpu"), reason="this processor has no bfloat16 instructions"
)
TIMES = ("train_seconds", "data_seconds", "images_per_second")


def task(**changes: Any) -> TrainTask:
    config: dict[str, Any] = {
        "seed": 3,
        "data": {
            "name": "synthetic",
            "classes": 4,
            "pixels": 8,
            "train_images": 64,
            "test_images": 24,
            "crop_padding": 1,
        },
        "model": {"name": "nf_resnet", "blocks": [1, 1], "width": 0.0625, "stem": "small"},
        "train": {"epochs": 3, "batch_size": 16, "lr_per_256": 0.5, "warmup_epochs": 0.5},
    }
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) and value.keys() != {"name"} else value
    return TrainTask.model_validate(config)


def without_times(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in TIMES}


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [without_times(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def execute_on(device: str, options: TrainTask, folder: Path, **ctx: Any) -> Outcome:
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    outcome = run(options, RunContext(folder, device, **ctx))
    outcome.discard_unfinished()  # as whoever stores the outcome does
    return outcome


def execute(options: TrainTask, folder: Path, **ctx: Any) -> Outcome:
    return execute_on("cpu", options, folder, **ctx)


def test_equals_a_plain_loop(tmp_path: Path) -> None:
    options = task()
    outcome = execute(options, tmp_path / "run")
    dataset = load(options.data)
    torch.manual_seed(stream_seed("weights", options.seed))
    model = build(options.model, dataset.num_classes, dataset.channels).to(memory_format=torch.channels_last)
    decayed = [p for n, p in model.named_parameters() if n.endswith("weight")]
    free = [p for n, p in model.named_parameters() if not n.endswith("weight")]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 1e-4}, {"params": free}], lr=1.0, momentum=0.9, nesterov=True
    )
    step = 0
    for epoch in range(3):
        losses = []
        for x, labels in train_batches(dataset, options.data, 16, options.seed, epoch):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, 4, options.train)
            loss = F.cross_entropy(model(x), labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            step += 1
        assert metrics(tmp_path / "run")[epoch]["train_loss"] == pytest.approx(sum(losses) / 4, rel=1e-5)
    model.eval()
    with torch.no_grad():
        x = (dataset.test.images.float() / 255 - torch.tensor(dataset.mean)[:, None, None]) / torch.tensor(dataset.std)[
            :, None, None
        ]
        logits = model(x)
    top1 = 100 * (logits.argmax(1) == dataset.test.labels).float().mean().item()
    assert outcome.final["top1"] == pytest.approx(top1)
    assert outcome.final["test_loss"] == pytest.approx(F.cross_entropy(logits, dataset.test.labels).item(), rel=1e-4)
    assert outcome.final["steps"] == step == 12


def test_it_learns(tmp_path: Path) -> None:
    options = task(data={"train_images": 1024}, model={"width": 0.125}, train={"epochs": 5, "lr_per_256": 1.0})
    assert execute(options, tmp_path / "run").final["top1"] > 80  # chance is 25


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"train": {"precision": "bfloat16"}}, marks=needs_bfloat16),
        {"train": {"ema_decay": 0.9, "evaluate_every": 2}},
        {"model": {"name": "bn_resnet", "blocks": [1, 1], "width": 0.0625, "stem": "small"}},
        {"train": {"grad_accum_steps": 2, "ema_decay": 0.9}, "model": {"dropout": 0.5, "stochastic_depth": 0.5}},
    ],
    ids=["float32", "bfloat16", "ema", "bn", "grad_accum_steps"],
)
def test_stopped_at_any_step_it_ends_with_the_same_bits(tmp_path: Path, changes: dict[str, Any]) -> None:
    options = task(**changes)
    undisturbed = execute(options, tmp_path / "undisturbed")
    for stop_at in range(1, 12):
        folder = tmp_path / f"stopped-{stop_at}"
        looks = iter(range(1, 100))
        try:
            execute(options, folder, should_stop=lambda looks=looks, at=stop_at: next(looks) >= at)
            pytest.fail("it did not stop")
        except Interrupted:
            assert len(list(folder.glob("checkpoint-*.pt"))) in (1, 2)
        torch.manual_seed(stop_at)  # whatever the process did meanwhile
        told: list[Progress] = []
        resumed = execute(options, folder, report=told.append)
        assert told[0].done == stop_at  # it goes on: from the beginning it would end with the same bits, too
        assert without_times(resumed.final) == without_times(undisturbed.final)
        assert metrics(folder) == metrics(tmp_path / "undisturbed")
        assert list(folder.glob("checkpoint-*.pt")) == []


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, [0, 1, 2, 2]), (3600.0, [0, 0, 0, 0])])
def test_it_saves_within_an_epoch_when_it_is_time(tmp_path: Path, seconds: float, expected: list[int]) -> None:
    seen: list[int] = []

    def look() -> bool:
        seen.append(len(list((tmp_path / "run").glob("checkpoint-*.pt"))))
        return len(seen) == 4

    with pytest.raises(Interrupted):
        execute(task(), tmp_path / "run", checkpoint_seconds=seconds, should_stop=look)
    assert seen == expected


def test_a_damaged_checkpoint_costs_time_but_no_bit(tmp_path: Path) -> None:
    options = task()
    undisturbed = execute(options, tmp_path / "undisturbed")
    looks = iter(range(1, 100))
    with pytest.raises(Interrupted):
        execute(options, tmp_path / "run", checkpoint_seconds=0.0, should_stop=lambda: next(looks) >= 7)
    newest = max((tmp_path / "run").glob("checkpoint-*.pt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    complaints: list[str] = []
    resumed = execute(options, tmp_path / "run", complain=complaints.append)
    assert len(complaints) == 1
    assert newest.name in complaints[0]
    assert without_times(resumed.final) == without_times(undisturbed.final)


def test_other_data_than_the_checkpoints_are_refused(tmp_path: Path) -> None:
    looks = iter(range(1, 100))
    with pytest.raises(Interrupted):
        execute(task(), tmp_path / "run", should_stop=lambda: next(looks) >= 5)
    with pytest.raises(ValueError, match="its checkpoint was made with different data"):
        execute(task(data={"data_seed": 1}), tmp_path / "run")


def test_divergence_is_a_result_with_its_step(tmp_path: Path) -> None:
    outcome = execute(task(train={"lr_per_256": 1e20, "warmup_epochs": 0.0}), tmp_path / "run")
    assert outcome.status == "diverged"
    assert outcome.final["top1"] is None
    # The first step still sees the initial weights; what it does to them shows in the loss of a later one.
    assert 2 <= outcome.final["diverged_at_step"] <= 12
    json.dumps(outcome.final, allow_nan=False)


def test_throughput_is_images_over_time(tmp_path: Path) -> None:
    final = execute(task(), tmp_path / "run").final
    assert 0 < final["data_seconds"] <= final["train_seconds"]
    assert final["images_per_second"] == pytest.approx(12 * 16 / final["train_seconds"], rel=0.02)


def test_time_spent_waiting_for_batches_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_batches(*arguments: Any, **options: Any) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in train_batches(*arguments, **options):
            time.sleep(0.02)
            yield batch

    monkeypatch.setattr(loop, "train_batches", slow_batches)
    final = execute(task(), tmp_path / "run").final
    assert 12 * 0.02 <= final["data_seconds"] <= final["train_seconds"]


def test_seeds_and_arms(tmp_path: Path) -> None:
    # Another seed is another run; the same seed at another alpha begins with the same weights and the same images.
    one, same, other = (execute(task(seed=seed), tmp_path / f"{i}") for i, seed in enumerate((0, 0, 1)))
    assert one.final["weights_sha256"] == same.final["weights_sha256"] != other.final["weights_sha256"]
    dataset = load(task().data)
    small, large, other_seed = (initial_model(task(**c), dataset) for c in ({}, {"model": {"alpha": 1.0}}, {"seed": 4}))
    weights = [model.state_dict()["stages.1.0.conv1.weight"] for model in (small, large, other_seed)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("pixels", "expected"), [(32, 500), (64, 500), (96, 8)])
def test_large_images_are_evaluated_as_few_at_once_as_they_are_trained_on(pixels: int, expected: int) -> None:
    options = task(data={"pixels": pixels}, train={"grad_accum_steps": 2})
    setup = loop.TrainingSetup(load(options.data), options.data, options.train, options.seed)
    assert setup.evaluation_batch == expected
