"""Covariate shift while a network trains: noise that repeats itself, and moments that change nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from nfrepro.data.probe_batch import image_batch
from nfrepro.data.sources import load
from nfrepro.errors import InputError
from nfrepro.models import create
from nfrepro.signal import layer_inputs
from nfrepro.tasks import covariate_shift, train, watched_training
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.batch_norm_noise import BatchNormNoise
from nfrepro.tasks.covariate_shift import shift_table
from nfrepro.tasks.options import CovariateShiftTask, TrainTask
from nfrepro.training.context import Interrupted, RunContext

TIMES = ("train_seconds", "data_seconds", "images_per_second")
SHIFTS = ("mean_shift", "std_shift", "constant")
BN = {"name": "bn_resnet", "blocks": [1, 1], "width": 0.0625, "stem": "small"}
NF = {"name": "nf_resnet", "blocks": [1, 1], "width": 0.0625, "stem": "small"}
CONFIG: dict[str, Any] = {
    "seed": 3,
    "data": {"name": "synthetic", "classes": 4, "pixels": 8, "train_images": 64, "test_images": 24, "crop_padding": 1},
    "model": BN,
    "train": {"epochs": 3, "batch_size": 16, "lr_per_256": 0.5, "warmup_epochs": 0.5},
    "probe": {"steps": [0, 4, 5, 12, 100], "images": 8},
}


def task(**changes: Any) -> CovariateShiftTask:
    """4 steps in each of 3 epochs."""
    return CovariateShiftTask.model_validate(CONFIG | changes)


def execute(options: CovariateShiftTask, folder: Path, **ctx: Any) -> Outcome:
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    outcome = covariate_shift.run(options, RunContext(folder, "cpu", **ctx))
    outcome.discard_unfinished()
    return outcome


def interrupt(options: CovariateShiftTask, folder: Path, after: int) -> None:
    looks = iter(range(1, 100))
    with pytest.raises(Interrupted):
        execute(options, folder, should_stop=lambda: next(looks) >= after)


def without_times(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in TIMES}


def test_without_noise_it_is_task_train_to_the_bit(tmp_path: Path) -> None:
    for name, model in (("bn", BN), ("nf", NF)):
        found = execute(task(model=model), tmp_path / name)
        plain = TrainTask.model_validate({**CONFIG, "model": model, "probe": None})
        (tmp_path / f"{name}-plain").mkdir()
        expected = watched_training.run(plain, RunContext(tmp_path / f"{name}-plain", "cpu"))
        assert without_times(expected.final).items() <= found.final.items()
        assert {path.name for path in (tmp_path / name).iterdir()} == {"metrics.jsonl", "covariate_shift.csv"}


def test_the_table_has_moments_and_their_shifts_at_every_step(tmp_path: Path) -> None:
    options = task(model=NF)
    outcome = covariate_shift.run(options, RunContext(tmp_path, "cpu"))
    found = pd.read_csv(tmp_path / "covariate_shift.csv")
    assert found["step"].unique().tolist() == [0, 4, 5, 12]  # never 100
    names = found["module"][found["step"] == 0].tolist()
    assert (names[0], names[-1], len(names)) == ("initial_conv", "linear", 10)
    # At first: the moments of the network as it is drawn.
    dataset = load(options.data)
    model = train.initial_model(options, dataset).to(memory_format=torch.channels_last)
    x = image_batch(dataset, 8, 8, 3).to(memory_format=torch.channels_last)
    at_first = layer_inputs(model, x)
    squared = at_first.assign(squared=at_first["mean"] ** 2).groupby("layer")[["squared", "variance"]].mean()
    np.testing.assert_allclose(
        found.loc[found["step"] == 0, ["avg_sq_mean", "avg_var"]].to_numpy(), squared, rtol=1e-5, atol=1e-12
    )
    # Later: shifts by hand, of a layer all of whose channels live.
    channels = pd.read_csv(tmp_path / ".moments.csv")
    conv = channels[channels["module"] == "stages.1.0.conv2"].pivot(index="channel", columns="step")
    for before, after in ((0, 4), (4, 5), (5, 12)):
        row = found[(found["step"] == after) & (found["module"] == "stages.1.0.conv2")].iloc[0]
        change = (conv["mean"][after] - conv["mean"][before]).abs()
        std = np.sqrt((conv["variance"][after] + conv["variance"][before]) / 2)
        assert row["mean_shift"] == pytest.approx((change / std).mean(), rel=1e-4)
        logarithm = np.log(np.sqrt(conv["variance"][after] / conv["variance"][before])).abs()
        assert row["std_shift"] == pytest.approx(logarithm.mean(), rel=1e-4)
    assert found.loc[found["step"] == 0, list(SHIFTS)].isna().all(axis=None)
    assert (found.loc[found["layer"] == 1, "mean_shift"].dropna() == 0).all()  # the images stay the same
    for name in SHIFTS:
        assert outcome.final[name] == pytest.approx(found[name].mean(), rel=1e-4)
    assert outcome.final["mean_shift"] > 0


def test_noise_moves_the_inputs_of_all_layers_behind_it(tmp_path: Path) -> None:
    tables = {}
    for noise in (0.0, 1.0):
        execute(task(noise=noise, train={**CONFIG["train"], "lr_per_256": 1e-6}), tmp_path / str(noise))
        tables[noise] = pd.read_csv(tmp_path / str(noise) / "covariate_shift.csv").dropna()
    # Hardly anything is learnt: without noise nothing moves; the first convolution stands before all BatchNorm layers.
    assert tables[0.0]["mean_shift"].max() < 1e-3
    behind = tables[1.0]["layer"] > 1
    assert tables[1.0].loc[~behind, "mean_shift"].max() == 0
    assert tables[1.0].loc[behind, "mean_shift"].min() > 0.05


def test_interrupted_with_noise_it_ends_with_the_same_bits_and_bytes(tmp_path: Path) -> None:
    options = task(noise=1.0, model={**BN, "dropout": 0.5})
    undisturbed = execute(options, tmp_path / "undisturbed")
    for after in (1, 5, 11):
        folder = tmp_path / f"stopped-{after}"
        interrupt(options, folder, after)
        assert not (folder / "covariate_shift.csv").exists()
        torch.manual_seed(after)
        resumed = execute(options, folder)
        assert without_times(resumed.final) == without_times(undisturbed.final)
        table = (tmp_path / "undisturbed" / "covariate_shift.csv").read_bytes()
        assert (folder / "covariate_shift.csv").read_bytes() == table, after


def test_noise_trains_another_network_of_the_same_name_and_seed(tmp_path: Path) -> None:
    plain, noisy, other = (execute(task(noise=noise), tmp_path / str(noise)).final for noise in (0.0, 1.0, 0.5))
    assert len({final["weights_sha256"] for final in (plain, noisy, other)}) == 3
    assert task(noise=1.0).label() == f"noise1-{task().label()}"


def test_a_diverged_run_has_no_shifts(tmp_path: Path) -> None:
    complaints: list[str] = []
    options = task(
        model={**NF, "convolution": "he"},
        train={"epochs": 3, "batch_size": 16, "lr_per_256": 1e20, "warmup_epochs": 0.0},
        probe={"steps": [0, 1, 2], "images": 8},
    )
    outcome = execute(options, tmp_path, complain=complaints.append)
    assert outcome.status == "diverged"
    assert [outcome.final[name] for name in SHIFTS] == [None] * 3
    assert set(pd.read_csv(tmp_path / "covariate_shift.csv")["step"]) == {0}
    assert "not finite: the signal explodes" in complaints[0]


def test_without_any_measurement_the_table_has_a_heading() -> None:
    assert list(shift_table(pd.DataFrame()).columns) == ["step", "layer", "module", "avg_sq_mean", "avg_var", *SHIFTS]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"probe": {"steps": [4, 4], "images": 8}},
            "probe.steps: a shift needs two measurements: give two steps or more",
        ),
        ({"probe": None}, "probe"),
        ({"noise": -1.0}, "noise"),
        ({"noise": 1.0, "train": {**CONFIG["train"], "grad_accum_steps": 2}}, "noise is drawn for whole batches"),
    ],
)
def test_bad_options_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        task(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probe": {"steps": [4, 13], "images": 8}}, "two measurements, and training ends after step 12"),
        ({"noise": 1.0, "model": NF}, "noise: there is no BatchNorm layer in NFResNet"),
        ({"probe": {"steps": [0, 4], "images": 65}}, "a batch of 65 is more than the 64 train images"),
    ],
)
def test_what_cannot_be_run_is_a_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        execute(task(**changes), tmp_path)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


# The noise itself


def disturbed(strength: float, seed: int, step: int, count: int = 512, training: bool = True) -> tuple[Tensor, Tensor]:
    """The output of a BatchNorm layer without noise and with it."""
    x = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    layer = nn.BatchNorm2d(3).train(training)
    plain = layer(x)
    BatchNormNoise(layer, strength, seed).before_step(step)
    return plain.detach(), layer(x).detach()


def shift_and_factor(plain: Tensor, noisy: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """m and s of every image and channel, by least squares over the positions."""
    a, b = (values.flatten(2).double().numpy() for values in (plain, noisy))
    a_mean, b_mean = a.mean(2), b.mean(2)
    factor = ((a - a_mean[..., None]) * b).sum(2) / ((a - a_mean[..., None]) ** 2).sum(2)
    fitted = factor[..., None] * (a - a_mean[..., None]) + b_mean[..., None]
    np.testing.assert_allclose(fitted, b, atol=1e-5)  # one m and s for all positions
    return b_mean - factor * a_mean, factor


@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_channels_draw_and_images_draw_around_them(strength: float) -> None:
    centres, means = [], []
    for step in range(60):
        shift, factor = shift_and_factor(*disturbed(strength, 0, step))
        # m is uniform around the channel's shift, up to 0.1 away, and s normal with a deviation of 0.1.
        assert np.ptp(shift, axis=0).max() < 0.2 * strength + 1e-4
        np.testing.assert_allclose(shift.std(0), 0.1 * strength / 3**0.5, rtol=0.15)
        np.testing.assert_allclose(factor.std(0), 0.1 * strength, rtol=0.15)
        centres += shift.mean(0).tolist()
        means += factor.mean(0).tolist()
    # 180 channels: U(-0.5, 0.5) and U(1, 1.25), each times the strength around 0 and 1.
    error = 0.02 * strength
    assert -0.5 * strength - error < min(centres) < -0.4 * strength
    assert 0.4 * strength < max(centres) < 0.5 * strength + error
    assert np.std(centres) == pytest.approx(strength / 12**0.5, rel=0.15)
    assert 1 - error < min(means) < 1 + 0.05 * strength
    assert 1 + 0.2 * strength < max(means) < 1 + 0.25 * strength + error


def test_noise_is_a_function_of_seed_step_and_layer() -> None:
    state = torch.get_rng_state()
    _, first = disturbed(1.0, 0, 5)
    assert torch.equal(disturbed(1.0, 0, 5)[1], first)
    assert not torch.allclose(disturbed(1.0, 0, 6)[1], first, atol=1e-2)
    assert not torch.allclose(disturbed(1.0, 1, 5)[1], first, atol=1e-2)
    assert torch.equal(torch.get_rng_state(), state)
    x = torch.randn(8, 3, 4, 4)
    layers = nn.ModuleList([nn.BatchNorm2d(3), nn.BatchNorm2d(3)])
    BatchNormNoise(layers, 1.0, 0)
    assert not torch.allclose(layers[0](x), layers[1](x), atol=1e-2)


def test_channels_of_small_and_large_batches_draw_the_same() -> None:
    centres = [shift_and_factor(*disturbed(1.0, 0, 7, count))[0].mean(0) for count in (256, 1024)]
    np.testing.assert_allclose(*centres, atol=0.02)


def test_there_is_no_noise_in_evaluation_mode_nor_at_strength_0() -> None:
    plain, same = disturbed(1.0, 0, 5, training=False)
    assert torch.equal(plain, same)
    plain, same = disturbed(0.0, 0, 5)
    torch.testing.assert_close(plain, same, rtol=0, atol=0)


def test_gradients_flow_through_the_noise() -> None:
    torch.manual_seed(0)
    model = create("bn_resnet", blocks=[1], width=0.125, stem="small", num_classes=3, in_channels=3)
    nn.init.normal_(model.linear.weight)
    BatchNormNoise(model, 1.0, 0)
    model(torch.randn(4, 3, 8, 8)).square().sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in model.parameters())


def test_clean_averages_add_an_evaluation_and_change_nothing_else(tmp_path: Path) -> None:
    plain = execute(task(noise=1.0), tmp_path / "plain")
    again = execute(task(noise=1.0, reestimate_batch_norm=True), tmp_path / "again")
    found = {name: again.final.pop(name) for name in covariate_shift.REESTIMATED}
    for name in plain.final.keys() - set(TIMES):
        assert again.final[name] == plain.final[name], name
    assert set(found) == {"test_loss_reestimated", "test_top1_reestimated"}
    assert found["test_loss_reestimated"] != plain.final["test_loss"]
    assert 0.0 <= found["test_top1_reestimated"] <= 100.0


def test_clean_averages_leave_out_a_last_batch_of_one_image(tmp_path: Path) -> None:
    """BatchNorm has no variance of one image at one position: the last map of this network is a single one."""
    data = CONFIG["data"] | {"train_images": 501}
    train = CONFIG["train"] | {"epochs": 1}
    assert execute(task(data=data, train=train, reestimate_batch_norm=True), tmp_path / "run").status == "completed"


def test_a_network_of_one_layer_has_shifts(tmp_path: Path) -> None:
    """Its name is empty, which a table must not take for a missing value."""
    x = torch.randn(16, 4)
    moments = [layer_inputs(nn.Linear(4, 2), x + shift).assign(step=step) for step, shift in ((0, 0.0), (1, 1.0))]
    path = tmp_path / covariate_shift.MOMENTS
    pd.concat(moments).to_csv(path, index=False)
    covariate_shift.write_shifts(tmp_path, Outcome("completed", {}))
    assert len(pd.read_csv(tmp_path / covariate_shift.TABLE)) == 2


def test_a_diverged_run_has_no_evaluation_with_clean_averages(tmp_path: Path) -> None:
    train = {"epochs": 3, "batch_size": 16, "lr_per_256": 1e20, "warmup_epochs": 0.0}
    outcome = execute(task(train=train, reestimate_batch_norm=True), tmp_path / "run")
    assert outcome.status == "diverged"
    assert outcome.final["test_top1_reestimated"] is None
