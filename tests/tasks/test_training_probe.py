"""The signal while a network trains: measured when asked, changing nothing, whatever interrupts the run."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfrepro.data.batches import train_batches
from nfrepro.data.sources import load
from nfrepro.models.registry import build
from nfrepro.seeding import stream_seed
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.options import TrainTask
from nfrepro.tasks.watched_training import run
from nfrepro.training.context import Interrupted, RunContext
from nfrepro.training.optim import learning_rate

TIMES = ("train_seconds", "data_seconds", "images_per_second")
PROBE = {"steps": [0, 1, 4, 6, 12, 100], "images": 8}
NF = {"name": "nf_resnet", "blocks": [2, 1], "width": 0.0625, "stem": "small", "skipinit_gain": 0.5}
BN = {"name": "bn_resnet", "blocks": [1, 1], "width": 0.0625, "stem": "small"}


def task(**changes: Any) -> TrainTask:
    """4 steps in each of 3 epochs."""
    data = {"name": "synthetic", "classes": 4, "pixels": 8, "train_images": 64, "test_images": 24, "crop_padding": 1}
    train = {"epochs": 3, "batch_size": 16, "lr_per_256": 0.5, "warmup_epochs": 0.5}
    return TrainTask.model_validate({"seed": 3, "data": data, "model": NF, "train": train, "probe": PROBE, **changes})


def execute(options: TrainTask, folder: Path, **ctx: Any) -> Outcome:
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    outcome = run(options, RunContext(folder, "cpu", **ctx))
    outcome.discard_unfinished()
    return outcome


def interrupt(options: TrainTask, folder: Path, after: int, **ctx: Any) -> None:
    looks = iter(range(1, 100))
    with pytest.raises(Interrupted):
        execute(options, folder, should_stop=lambda: next(looks) >= after, **ctx)


def without_times(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in TIMES}


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [without_times(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def table(folder: Path) -> bytes:
    return (folder / "propagation.csv").read_bytes()


def by_hooks(model: nn.Module, x: Tensor) -> np.ndarray:
    """Squared mean and variance after each block."""
    rows: list[tuple[float, float]] = []

    def note(_module: nn.Module, _inputs: Any, out: Tensor) -> None:
        values = out.double().numpy()
        rows.append((float((values.mean((0, 2, 3)) ** 2).mean()), float(values.var((0, 2, 3)).mean())))

    hooks = [block.register_forward_hook(note) for stage in model.stages for block in stage]  # type: ignore[union-attr]
    with torch.no_grad():
        model.eval()(x)
    model.train()
    for hook in hooks:
        hook.remove()
    return np.array(rows)


def test_rows_are_those_of_a_plain_loop_at_the_asked_steps(tmp_path: Path) -> None:
    options = task(train={"epochs": 3, "batch_size": 16, "lr_per_256": 8.0, "warmup_epochs": 0.5})
    execute(options, tmp_path)
    dataset = load(options.data)
    images = dataset.train.images.double() / 255
    mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3), correction=0)
    generator = torch.Generator().manual_seed(stream_seed("probe", 3))
    chosen = torch.randperm(64, generator=generator)[:8]
    x = ((images[chosen] - mean[:, None, None]) / std[:, None, None]).float()
    torch.manual_seed(stream_seed("weights", 3))
    model = build(options.model, 4, 1).to(memory_format=torch.channels_last)
    decayed = [p for n, p in model.named_parameters() if n.endswith("weight")]
    free = [p for n, p in model.named_parameters() if not n.endswith("weight")]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 1e-4}, {"params": free}], lr=1.0, momentum=0.9, nesterov=True
    )
    expected, step = {0: by_hooks(model, x)}, 0
    for epoch in range(3):
        for batch, labels in train_batches(dataset, options.data, 16, 3, epoch):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, 4, options.train)
            loss = F.cross_entropy(model(batch), labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            expected[step] = by_hooks(model, x)
    found = pd.read_csv(tmp_path / "propagation.csv")
    assert list(found.columns) == ["step", "block", "stage", "transition", "avg_sq_mean", "avg_var", "res_var"]
    assert found["step"].tolist() == [0] * 3 + [1] * 3 + [4] * 3 + [6] * 3 + [12] * 3  # never 100
    assert found["block"].tolist() == [1, 2, 3] * 5
    for at, rows in found.groupby("step"):
        np.testing.assert_allclose(
            rows[["avg_sq_mean", "avg_var"]], expected[int(str(at))], rtol=1e-3, atol=1e-6, err_msg=f"step {at}"
        )
    # Neighbouring steps are told apart by this (but for the first, which warm-up makes with a rate of 0).
    for at in (4, 6):
        for other in (at - 1, at + 1):
            assert not np.allclose(expected[at], expected[other], rtol=4e-3, atol=2e-6)


@pytest.mark.parametrize("model", [NF, BN, {**NF, "dropout": 0.5, "stochastic_depth": 0.5}], ids=["nf", "bn", "random"])
def test_measuring_changes_nothing(tmp_path: Path, model: dict[str, Any]) -> None:
    plain = execute(task(model=model, probe=None), tmp_path / "plain")
    probed = execute(task(model=model), tmp_path / "probed")
    assert without_times(probed.final) == without_times(plain.final)
    assert probed.final["weights_sha256"] == plain.final["weights_sha256"]
    assert metrics(tmp_path / "probed") == metrics(tmp_path / "plain")
    assert not (tmp_path / "plain" / "propagation.csv").exists()
    assert (tmp_path / "probed" / "propagation.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("model", "stops"), [(NF, range(1, 12)), (BN, (1, 4, 6))], ids=["nf", "bn"])
def test_interrupted_anywhere_the_table_has_the_same_bytes(
    tmp_path: Path, model: dict[str, Any], stops: Iterable[int]
) -> None:
    options = task(model=model)
    undisturbed = execute(options, tmp_path / "undisturbed")
    for after in stops:
        folder = tmp_path / f"stopped-{after}"
        interrupt(options, folder, after)
        torch.manual_seed(after)
        resumed = execute(options, folder)
        assert without_times(resumed.final) == without_times(undisturbed.final)
        assert table(folder) == table(tmp_path / "undisturbed"), after


@pytest.mark.parametrize("lost", ["all", "newest"])
def test_rows_of_steps_that_are_done_again_are_replaced(tmp_path: Path, lost: str) -> None:
    # As after a power cut: the table is ahead of the checkpoints that are left.
    options = task(probe={"steps": list(range(13)), "images": 8})
    execute(options, tmp_path / "undisturbed")
    folder = tmp_path / "cut"
    interrupt(options, folder, 7, checkpoint_seconds=0.0)
    ahead = pd.read_csv(folder / "propagation.csv")
    checkpoints = sorted(folder.glob("checkpoint-*.pt"))
    assert len(checkpoints) == 2
    for path in checkpoints if lost == "all" else checkpoints[-1:]:
        path.unlink()
    assert ahead["step"].max() >= 7
    ahead.loc[ahead["step"] == 7, "avg_var"] = -1.0  # to be replaced
    ahead.to_csv(folder / "propagation.csv", index=False, lineterminator="\n")
    execute(options, folder)
    assert table(folder) == table(tmp_path / "undisturbed")


def test_only_the_steps_asked_for(tmp_path: Path) -> None:
    execute(task(probe={"steps": [3], "images": 4}), tmp_path / "one")
    assert set(pd.read_csv(tmp_path / "one" / "propagation.csv")["step"]) == {3}
    execute(task(probe={"steps": [13, 14], "images": 4}), tmp_path / "none")
    assert not (tmp_path / "none" / "propagation.csv").exists()


def test_an_overflow_is_said_and_training_goes_on(tmp_path: Path) -> None:
    # The first step leaves weights that make the signal overflow; a later loss says that training diverged.
    complaints: list[str] = []
    options = task(
        model={**NF, "convolution": "he"},
        train={"epochs": 3, "batch_size": 16, "lr_per_256": 1e20, "warmup_epochs": 0.0},
        probe={"steps": [0, 1, 2], "images": 8},
    )
    outcome = execute(options, tmp_path, complain=complaints.append)
    assert outcome.status == "diverged"
    assert set(pd.read_csv(tmp_path / "propagation.csv")["step"]) == {0}
    assert complaints[0].startswith("no signal measured after step 1: ")
    assert all("\n" not in complaint for complaint in complaints)


def test_more_images_than_there_are_is_a_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a batch of 65 is more than the 64 train images"):
        execute(task(probe={"steps": [0], "images": 65}), tmp_path)
