"""Task `smoothness`: training as without it, the right batch and loss, the same tables whatever interrupts the run."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from newest_checkpoint import load_newest
from pydantic import ValidationError
from torch import Tensor, nn

from nfrepro.data.sources import load
from nfrepro.errors import InputError
from nfrepro.models.registry import build
from nfrepro.seeding import stream_seed
from nfrepro.signal import landscape
from nfrepro.tasks import smoothness as smoothness_task
from nfrepro.tasks import watched_training
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.options import SmoothnessTask, TrainTask
from nfrepro.training.context import Interrupted, RunContext

TIMES = ("train_seconds", "data_seconds", "images_per_second")
NUMBERS = [
    "log10_loss_range",
    "log10_gradient_change",
    "log10_beta",
    "log10_relative_loss_range",
    "log10_relative_gradient_change",
    "log10_relative_beta",
    "landscape_rise",
]
NF = {"name": "nf_resnet", "blocks": [2, 1], "width": 0.0625, "stem": "small", "skipinit_gain": 0.5}
BN = {"name": "bn_resnet", "blocks": [1, 1], "width": 0.0625, "stem": "small"}
SCHEDULE = {"steps": [1, 4, 6, 12, 100], "images": 8, "step_lengths": [0.5, 2.0], "relative_lengths": [0.01, 0.05]}


def config(**changes: Any) -> dict[str, Any]:
    """4 steps in each of 3 epochs."""
    data = {"name": "synthetic", "classes": 4, "pixels": 8, "train_images": 64, "test_images": 24, "crop_padding": 1}
    training = {"epochs": 3, "batch_size": 16, "lr_per_256": 0.5, "warmup_epochs": 0.5}
    return {"seed": 3, "data": data, "model": NF, "train": training, **changes}


def task(**changes: Any) -> SmoothnessTask:
    return SmoothnessTask.model_validate(
        config(**{"smoothness": SCHEDULE, "landscape": {"side": 3, "images": 8}, **changes})
    )


def execute(options: SmoothnessTask, folder: Path, **ctx: Any) -> Outcome:
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    outcome = smoothness_task.run(options, RunContext(folder, "cpu", **ctx))
    outcome.discard_unfinished()
    return outcome


def without_times(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in TIMES}


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [without_times(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def tables(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("smoothness.csv", "landscape.csv")]


def batch_of(options: SmoothnessTask) -> tuple[Tensor, Tensor]:
    """The images that the seed chooses, normalised and not augmented, with their labels."""
    train_set = load(options.data).train
    images = train_set.images.double() / 255
    mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3), correction=0)
    generator = torch.Generator().manual_seed(stream_seed("probe", options.seed))
    chosen = torch.randperm(len(images), generator=generator)[:8]
    return ((images[chosen] - mean[:, None, None]) / std[:, None, None]).float(), train_set.labels[chosen]


def stepped(model: nn.Module, batch: tuple[Tensor, Tensor], length: float) -> tuple[float, Tensor]:
    """Loss and gradient after a step of that length, the loss being that of training."""
    model.eval()
    for module in model.modules():
        module.train(isinstance(module, nn.BatchNorm2d))
    for step in (length, 0.0):
        model.zero_grad()
        loss = F.cross_entropy(model(batch[0]), batch[1], label_smoothing=0.1)
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= step * parameter.grad
    return loss.item(), torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("model", [NF, BN, {**NF, "dropout": 0.5, "stochastic_depth": 0.5}], ids=["nf", "bn", "random"])
def test_it_trains_as_task_train_does_to_the_bit(tmp_path: Path, model: dict[str, Any]) -> None:
    measured = execute(task(model=model), tmp_path / "measured")
    (tmp_path / "plain").mkdir()
    plain = watched_training.run(TrainTask.model_validate(config(model=model)), RunContext(tmp_path / "plain", "cpu"))
    shared = {key: value for key, value in measured.final.items() if key not in NUMBERS}
    assert without_times(shared) == without_times(plain.final)
    assert measured.final["weights_sha256"] == plain.final["weights_sha256"]
    assert metrics(tmp_path / "measured") == metrics(tmp_path / "plain")
    assert measured.final["top1"] is not None
    assert measured.provenance == plain.provenance


@pytest.mark.parametrize("network", [NF, BN], ids=["nf", "bn"])
def test_rows_before_training_are_those_of_steps_of_sgd(tmp_path: Path, network: dict[str, Any]) -> None:
    options = task(model=network, smoothness={**SCHEDULE, "steps": [0, 4]})
    execute(options, tmp_path)
    batch, peak_lr = batch_of(options), 0.5 * 16 / 256

    def initial() -> nn.Module:
        torch.manual_seed(stream_seed("weights", 3))
        return build(options.model, 4, 1)

    found = pd.read_csv(tmp_path / "smoothness.csv")
    assert found["step"].tolist() == [0] * 4 + [4] * 4
    assert found["ruler"].tolist() == ["learning_rate", "learning_rate", "weight_norm", "weight_norm"] * 2
    assert found["length"].tolist() == [0.5, 2.0, 0.01, 0.05] * 2
    loss, gradient = stepped(initial(), batch, 0.0)
    weights = torch.cat([parameter.detach().flatten() for parameter in initial().parameters()]).norm().item()
    for _, row in found[found["step"] == 0].iterrows():
        scale = peak_lr if row["ruler"] == "learning_rate" else weights / gradient.norm().item()
        there, gradient_there = stepped(initial(), batch, scale * row["length"])
        assert row["start_loss"] == pytest.approx(loss, rel=1e-5)
        assert row["gradient_norm"] == pytest.approx(gradient.norm().item(), rel=1e-4)
        assert row["weight_norm"] == pytest.approx(weights, rel=1e-5)
        assert row["distance"] == pytest.approx(scale * row["length"] * gradient.norm().item(), rel=1e-4)
        assert row["loss"] == pytest.approx(there, rel=1e-4)
        assert row["gradient_change"] == pytest.approx((gradient_there - gradient).norm().item(), rel=1e-2)
    assert found[found["step"] == 4]["start_loss"].iloc[0] != pytest.approx(loss, rel=1e-3)


def test_numbers_are_medians_over_the_steps(tmp_path: Path) -> None:
    final = execute(task(), tmp_path).final
    rows = pd.read_csv(tmp_path / "smoothness.csv")
    assert sorted(set(rows["step"])) == [1, 4, 6, 12]  # never 100
    by_step = {
        ruler: [of for _, of in rows[rows["ruler"] == ruler].groupby("step")]
        for ruler in ("learning_rate", "weight_norm")
    }
    expected: dict[str, list[float]] = {name: [] for name in NUMBERS[:-1]}
    for of in by_step["learning_rate"]:
        expected["log10_loss_range"].append(of["loss"].max() - of["loss"].min())
        expected["log10_gradient_change"].append(of["gradient_change"].max())
        expected["log10_beta"].append((of["gradient_change"] / of["distance"]).max())
    for of in by_step["weight_norm"]:
        change = of["gradient_change"]
        expected["log10_relative_loss_range"].append(of["loss"].max() - of["loss"].min())
        expected["log10_relative_gradient_change"].append((change / of["gradient_norm"]).max())
        expected["log10_relative_beta"].append((change / of["distance"] * of["weight_norm"] ** 2).max())
    for name, values in expected.items():
        assert final[name] == pytest.approx(math.log10(np.median(values)), rel=1e-9), name


def test_the_surface_is_that_of_the_trained_weights(tmp_path: Path) -> None:
    options = task(landscape={"side": 5, "images": 8, "extent": 0.5})
    outcome = smoothness_task.run(options, RunContext(tmp_path, "cpu"))
    saved = load_newest(tmp_path, print)
    assert saved is not None
    model = build(options.model, 4, 1)
    model.load_state_dict(saved["model"])
    found = landscape(
        model, lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1), batch_of(options), side=5, extent=0.5, seed=3
    )
    rows = pd.read_csv(tmp_path / "landscape.csv")
    assert list(rows.columns) == ["first", "second", "loss"]
    assert rows["first"].tolist() == [a for a in (-0.5, -0.25, 0.0, 0.25, 0.5) for _ in range(5)]
    assert rows["second"].tolist() == [-0.5, -0.25, 0.0, 0.25, 0.5] * 5
    np.testing.assert_allclose(rows["loss"], found.losses.flatten(), rtol=1e-4)
    assert outcome.final["landscape_rise"] == pytest.approx(rows["loss"].median() - rows["loss"][12], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "stops"), [(NF, (1, 4, 5, 11)), (BN, (6,))], ids=["nf", "bn"])
def test_interrupted_anywhere_the_tables_have_the_same_bytes(
    tmp_path: Path, model: dict[str, Any], stops: Iterable[int]
) -> None:
    options = task(model=model)
    undisturbed = execute(options, tmp_path / "undisturbed")
    for after in stops:
        folder, looks = tmp_path / f"stopped-{after}", iter(range(1, 100))
        with pytest.raises(Interrupted):
            execute(options, folder, should_stop=lambda looks=looks, after=after: next(looks) >= after)
        torch.manual_seed(after)
        resumed = execute(options, folder)
        assert without_times(resumed.final) == without_times(undisturbed.final), after
        assert tables(folder) == tables(tmp_path / "undisturbed"), after


def test_rows_of_steps_that_are_done_again_are_replaced(tmp_path: Path) -> None:
    options = task()
    execute(options, tmp_path / "undisturbed")
    folder, looks = tmp_path / "cut", iter(range(1, 100))
    with pytest.raises(Interrupted):
        execute(options, folder, should_stop=lambda: next(looks) >= 7)
    for path in folder.glob("checkpoint-*.pt"):  # as after a power cut: the table is ahead of what is left
        path.unlink()
    ahead = pd.read_csv(folder / "smoothness.csv")
    assert ahead["step"].max() == 6
    ahead.assign(loss=-1.0).to_csv(folder / "smoothness.csv", index=False)
    execute(options, folder)
    assert tables(folder) == tables(tmp_path / "undisturbed")


def test_a_run_that_diverges_has_no_numbers_and_says_why(tmp_path: Path) -> None:
    complaints: list[str] = []
    options = task(
        model={**NF, "convolution": "he"},
        train={"epochs": 3, "batch_size": 16, "lr_per_256": 1e20, "warmup_epochs": 0.0},
        smoothness={**SCHEDULE, "steps": [0, 1, 2]},
    )
    outcome = execute(options, tmp_path, complain=complaints.append)
    assert outcome.status == "diverged"
    assert {outcome.final[name] for name in ["top1", *NUMBERS]} == {None}
    assert json.loads(json.dumps(outcome.final, allow_nan=False)) == outcome.final
    rows = pd.read_csv(tmp_path / "smoothness.csv")
    assert set(rows["step"]) == {0}
    assert complaints[0].startswith("no smoothness measured after step 1: ")
    assert not (tmp_path / "landscape.csv").exists()


def test_points_beyond_all_bounds_are_infinite_in_the_table_and_no_number(tmp_path: Path) -> None:
    schedule = {**SCHEDULE, "step_lengths": [1.0, 1e38], "steps": [4, 8]}
    outcome = execute(task(model={**NF, "convolution": "he"}, smoothness=schedule), tmp_path)
    assert outcome.status == "completed"
    assert outcome.final["log10_gradient_change"] is None
    assert outcome.final["log10_relative_beta"] is not None
    rows = pd.read_csv(tmp_path / "smoothness.csv")
    assert np.isinf(rows.loc[rows["length"] == 1e38, "gradient_change"]).all()


# Bad input


def test_too_few_steps_are_one_line_before_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"of \[12, 13\] fewer than two lie within the 12 steps of the run: choose"):
        execute(task(smoothness={**SCHEDULE, "steps": [12, 13]}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_more_images_than_there_are_is_one_line(tmp_path: Path) -> None:
    for changes in ({"smoothness": {**SCHEDULE, "images": 65}}, {"landscape": {"side": 3, "images": 65}}):
        with pytest.raises(InputError, match="a batch of 65 is more than the 64 train images"):
            execute(task(**changes), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"smoothness": {**SCHEDULE, "steps": [4]}}, "at least 2 items"),
        ({"smoothness": {**SCHEDULE, "step_lengths": [1.0]}}, "at least 2 items"),
        ({"smoothness": {**SCHEDULE, "step_lengths": [1.0, 1.0]}}, r"\[1.0, 1.0\] must increase"),
        ({"smoothness": {**SCHEDULE, "relative_lengths": [0.1, 0.01]}}, "must increase"),
        ({"smoothness": {**SCHEDULE, "step_lengths": [0.0, 1.0]}}, "greater than 0"),
        ({"landscape": {"side": 4}}, "4 is even, so the grid would not contain the weights themselves: make it odd"),
        ({"probe": {"steps": [1]}}, "None"),
    ],
)
def test_options_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        task(**changes)
