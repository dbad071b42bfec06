"""Use of the nonlinearity while a network trains: counted when asked, changing nothing, whatever interrupts the run."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from nfrepro.data.probe_batch import image_batch
from nfrepro.data.sources import load
from nfrepro.errors import InputError
from nfrepro.signal import activation_use
from nfrepro.tasks import nonlinearity, train, watched_training
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.options import NonlinearityTask, TrainTask
from nfrepro.training.context import Interrupted, RunContext

TIMES = ("train_seconds", "data_seconds", "images_per_second")
NF = {"name": "nf_resnet", "blocks": [1, 1], "width": 0.0625, "stem": "small"}
CONFIG: dict[str, Any] = {
    "seed": 3,
    "data": {"name": "synthetic", "classes": 4, "pixels": 8, "train_images": 64, "test_images": 24, "crop_padding": 1},
    "model": {"name": "bn_resnet", "blocks": [1, 1], "width": 0.0625, "stem": "small"},
    "train": {"epochs": 3, "batch_size": 16, "lr_per_256": 0.5, "warmup_epochs": 0.5},
    "probe": {"steps": [0, 4, 12, 100], "images": 8},
}


def task(**changes: Any) -> NonlinearityTask:
    """4 steps in each of 3 epochs."""
    return NonlinearityTask.model_validate(CONFIG | changes)


def execute(options: NonlinearityTask, folder: Path, **ctx: Any) -> Outcome:
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    outcome = nonlinearity.run(options, RunContext(folder, "cpu", **ctx))
    outcome.discard_unfinished()
    return outcome


def without_times(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in TIMES}


def test_it_is_task_train_to_the_bit_and_a_table(tmp_path: Path) -> None:
    found = execute(task(), tmp_path / "counted")
    (tmp_path / "plain").mkdir()
    plain = watched_training.run(
        TrainTask.model_validate({**CONFIG, "probe": None}), RunContext(tmp_path / "plain", "cpu")
    )
    assert without_times(plain.final).items() <= found.final.items()
    table = pd.read_csv(tmp_path / "counted" / "activation_use.csv")
    assert table["step"].tolist() == [0] * 7 + [4] * 7 + [12] * 7  # never 100
    dataset = load(task().data)
    model = train.initial_model(task(), dataset).to(memory_format=torch.channels_last)
    at_first = activation_use(model, image_batch(dataset, 8, 8, 3).to(memory_format=torch.channels_last))
    pd.testing.assert_frame_equal(table[table["step"] == 0].drop(columns="step"), at_first)
    for name, step in (("first", 0), ("last", 12)):
        at = table[table["step"] == step]
        for share in ("active", "coactive", "always_on", "dead"):
            assert found.final[f"{name}_{share}"] == pytest.approx(at[share].mean(), rel=1e-12)
        fixed = found.final[f"{name}_always_on"] + found.final[f"{name}_dead"]
        assert found.final[f"{name}_fixed"] == pytest.approx(fixed, rel=1e-12)


@pytest.mark.parametrize("after", [1, 5])
def test_interrupted_it_ends_with_the_same_bits_and_bytes(tmp_path: Path, after: int) -> None:
    options, looks = task(model=NF), iter(range(1, 100))
    undisturbed = execute(options, tmp_path / "undisturbed")
    with pytest.raises(Interrupted):
        execute(options, tmp_path / "stopped", should_stop=lambda: next(looks) >= after)
    resumed = execute(options, tmp_path / "stopped")
    assert without_times(resumed.final) == without_times(undisturbed.final)
    tables = [(tmp_path / name / "activation_use.csv").read_bytes() for name in ("stopped", "undisturbed")]
    assert tables[0] == tables[1]


def test_a_diverged_run_has_the_numbers_from_before(tmp_path: Path) -> None:
    train_options = {"epochs": 3, "batch_size": 16, "lr_per_256": 1e20, "warmup_epochs": 0.0}
    outcome = execute(task(model={**NF, "convolution": "he"}, train=train_options), tmp_path)
    assert outcome.status == "diverged"
    assert 0.2 < outcome.final["first_active"] < 0.8
    assert outcome.final["last_active"] is outcome.final["last_fixed"] is outcome.final["top1"] is None


def test_a_run_that_is_over_before_its_first_measurement_has_no_numbers(tmp_path: Path) -> None:
    outcome = execute(task(probe={"steps": [13], "images": 8}), tmp_path)
    assert outcome.final["first_active"] is outcome.final["last_fixed"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {**NF, "activation": "tanh"}}, "no rectifying activation was called in NFResNet"),
        ({"probe": {"steps": [0], "images": 1}}, "two images or more"),
    ],
)
def test_what_cannot_be_run_is_a_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        execute(task(**changes), tmp_path)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_it_needs_to_know_when_to_count() -> None:
    with pytest.raises(ValidationError, match="probe"):
        task(probe=None)
