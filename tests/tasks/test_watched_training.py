"""One training that is watched in all ways gives what the tasks for each of them give, and is not changed by any."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nfrepro.data.batches import Normalisation
from nfrepro.data.sources import ImageSet
from nfrepro.errors import InputError
from nfrepro.runs.integrity import check_result, seal
from nfrepro.specs.identity import resolve
from nfrepro.tasks import covariate_shift, nonlinearity, smoothness, watched_training
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.options import CovariateShiftTask, NonlinearityTask, SmoothnessTask, TrainTask
from nfrepro.tasks.train import prepare, train
from nfrepro.training.context import Interrupted, RunContext

TIMES = ("train_seconds", "data_seconds", "images_per_second")
NF = {"name": "nf_resnet", "blocks": [2, 1], "width": 0.0625, "stem": "small", "skipinit_gain": 0.5}
BN = {"name": "bn_resnet", "blocks": [2, 1], "width": 0.0625, "stem": "small"}
UNITS = {"steps": [0, 4, 12], "images": 8}
LAYER_INPUTS = {"steps": [0, 3, 12], "images": 6}
SMOOTHNESS = {"steps": [4, 8], "images": 8}
TABLES = ("activation_use.csv", "covariate_shift.csv", "smoothness.csv")


def config(model: dict[str, Any] = NF, **more: Any) -> dict[str, Any]:
    """4 steps in each of 3 epochs."""
    data = {"name": "synthetic", "classes": 4, "pixels": 8, "train_images": 64, "test_images": 24, "crop_padding": 1}
    train = {"epochs": 3, "batch_size": 16, "lr_per_256": 0.5, "warmup_epochs": 0.5, **more.pop("train", {})}
    return {"seed": 3, "data": data, "model": model, "train": train, **more}


def watched(**more: Any) -> TrainTask:
    return TrainTask.model_validate(
        config(units=UNITS, layer_inputs=LAYER_INPUTS, smoothness=SMOOTHNESS, **more),
    )


def context(folder: Path, **ctx: Any) -> RunContext:
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    return RunContext(folder, "cpu", **ctx)


def numbers(outcome: Outcome) -> dict[str, Any]:
    return {name: value for name, value in outcome.final.items() if name not in TIMES}


def test_the_outcome_has_the_numbers_of_every_task(tmp_path: Path) -> None:
    together = numbers(watched_training.run(watched(), context(tmp_path / "together")))
    tasks = {
        nonlinearity: NonlinearityTask.model_validate(config(probe=UNITS)),
        covariate_shift: CovariateShiftTask.model_validate(config(probe=LAYER_INPUTS)),
        smoothness: SmoothnessTask.model_validate(config(smoothness=SMOOTHNESS, landscape={"side": 3, "images": 2})),
        watched_training: TrainTask.model_validate(config()),
    }
    expected: dict[str, Any] = {}
    for task, options in tasks.items():
        folder = tmp_path / task.__name__
        expected |= numbers(task.run(options, context(folder)))
        for table in TABLES:
            if (folder / table).exists():
                assert (folder / table).read_bytes() == (tmp_path / "together" / table).read_bytes()
    del expected["landscape_rise"]  # which is not watched
    assert together == expected


def test_noise_is_that_of_the_task_for_it(tmp_path: Path) -> None:
    options = watched(model=BN, noise=1.0)
    found = numbers(watched_training.run(options, context(tmp_path / "watched")))
    alone = CovariateShiftTask.model_validate(config(model=BN, probe=LAYER_INPUTS, noise=1.0))
    expected = numbers(covariate_shift.run(alone, context(tmp_path / "alone")))
    assert expected.items() <= found.items()
    quiet = numbers(watched_training.run(watched(model=BN), context(tmp_path / "quiet")))
    assert quiet["weights_sha256"] != found["weights_sha256"]


def test_an_interrupted_run_ends_with_the_same_numbers_and_tables(tmp_path: Path) -> None:
    whole = watched_training.run(watched(), context(tmp_path / "whole"))
    looks = iter(range(100))
    with pytest.raises(Interrupted):
        watched_training.run(watched(), context(tmp_path / "parts", should_stop=lambda: next(looks) >= 5))
    continued = watched_training.run(watched(), context(tmp_path / "parts"))
    assert numbers(continued) == numbers(whole)
    for table in TABLES:
        assert (tmp_path / "parts" / table).read_bytes() == (tmp_path / "whole" / table).read_bytes()
    assert (tmp_path / "parts" / ".moments.csv").exists()
    continued.discard_unfinished()
    assert not (tmp_path / "parts" / ".moments.csv").exists()


@pytest.mark.parametrize("name", ["train", "covariate_shift"])
def test_what_is_discarded_is_no_part_of_the_sealed_result(name: str, tmp_path: Path) -> None:
    task, options = {
        "train": (watched_training, watched()),
        "covariate_shift": (covariate_shift, CovariateShiftTask.model_validate(config(probe=LAYER_INPUTS))),
    }[name]
    outcome = task.run(options, context(tmp_path))
    sealed = seal(tmp_path, {"status": outcome.status, "final": outcome.final})
    outcome.discard_unfinished()
    check_result(tmp_path, sealed)
    assert "covariate_shift.csv" in sealed["seal"]["files"]


def test_a_diverged_run_has_no_numbers_of_its_end(tmp_path: Path) -> None:
    options = watched(train={"lr_per_256": 1e12, "warmup_epochs": 0.0})
    outcome = watched_training.run(options, context(tmp_path))
    assert outcome.status == "diverged"
    for name in ("top1", "final_train_top1", "skipinit_gain", "last_fixed", "mean_shift", "log10_beta"):
        assert outcome.final[name] is None
    assert outcome.final["first_fixed"] is not None


def test_schedules_that_cannot_be_kept_are_refused_before_training(tmp_path: Path) -> None:
    late = {"steps": [0, 13]}
    for key, schedule in (("layer_inputs", late), ("smoothness", {"steps": [12, 13], "images": 8})):
        with pytest.raises(InputError, match=rf"{key}\.steps"):
            watched_training.run(TrainTask.model_validate(config(**{key: schedule})), context(tmp_path))
    linear = {**NF, "activation": "identity"}
    with pytest.raises(InputError, match="no rectifying activation"):
        watched_training.run(TrainTask.model_validate(config(model=linear, units=UNITS)), context(tmp_path))
    with pytest.raises(ValueError, match="two measurements"):
        TrainTask.model_validate(config(layer_inputs={"steps": [3, 3]}))
    with pytest.raises(ValueError, match="grad_accum_steps"):
        TrainTask.model_validate(config(model=BN, noise=1.0, train={"grad_accum_steps": 2}))
    with pytest.raises(InputError, match="one process"):
        watched_training.check_processes(TrainTask.model_validate(config(model=BN, noise=1.0)), 1)


def test_options_at_their_defaults_are_outside_the_id() -> None:
    plain = resolve(TrainTask.model_validate(config()), "train")
    assert set(plain.outside_id) >= {"units", "layer_inputs", "smoothness", "noise"}
    assert resolve(watched(), "train").id != plain.id


def test_accuracy_on_training_images_is_that_of_the_trained_network(tmp_path: Path) -> None:
    """By hand over all 64 training images, which are fewer than the sample would have."""
    options, ctx = TrainTask.model_validate(config()), context(tmp_path)
    dataset, model = prepare(options, ctx)
    final = train(options, ctx, dataset, model).final
    assert isinstance(dataset.train, ImageSet)
    x = Normalisation.of(dataset, 8)(dataset.train.images.permute(0, 2, 3, 1))
    with torch.no_grad():
        right = (model.eval()(x).argmax(1) == dataset.train.labels).sum()
    assert final["final_train_top1"] == pytest.approx(100 * float(right) / 64)


def test_scalars_are_read_after_a_quarter_of_the_steps(tmp_path: Path) -> None:
    """12 steps of 16: a run of the same schedule stopped there has them as its newest."""
    seen: dict[int, float] = {}

    class Recorder:
        steps = frozenset(range(13))

        def measure(self, model: torch.nn.Module, step: int) -> None:
            found = [abs(float(v.detach())) for n, v in model.named_parameters() if n.endswith("skip_gain")]
            seen[step] = sum(found) / len(found)

    options = TrainTask.model_validate(config())
    ctx = context(tmp_path)
    dataset, model = prepare(options, ctx)
    final = train(options, ctx, dataset, model, Recorder()).final
    assert final["early_skipinit_gain"] == pytest.approx(seen[3], abs=0)
    assert final["skipinit_gain"] == pytest.approx(seen[12], abs=0)
    assert seen[3] != seen[12]


def test_a_network_without_scalars_has_no_such_numbers(tmp_path: Path) -> None:
    final = watched_training.run(TrainTask.model_validate(config(model=BN)), context(tmp_path)).final
    assert "skipinit_gain" not in final
    assert "early_skipinit_gain" not in final
