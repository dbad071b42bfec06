"""Task `gradient_correlation` against networks and circles made here, and derivatives of torch.func."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from nfrepro.data.probe_batch import gaussian_batch
from nfrepro.errors import InputError
from nfrepro.models import create
from nfrepro.seeding import stream_seed
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.gradient_correlation import run
from nfrepro.tasks.options import GradientCorrelationTask
from nfrepro.training.context import Interrupted, Progress, RunContext

NETWORK: dict[str, Any] = {"name": "fully_connected", "depth": 2, "width": 20, "pixels": 4}
SYNTHETIC = {"name": "synthetic", "classes": 4, "channels": 2, "pixels": 8, "train_images": 40, "test_images": 8}


def task(**changes: Any) -> GradientCorrelationTask:
    given = {"seed": 3, "model": NETWORK, "pixels": 4, "inputs": 16, "batch": 6, "draws": 3, **changes}
    return GradientCorrelationTask.model_validate(given)


def execute(options: GradientCorrelationTask, folder: Path) -> tuple[Outcome, pd.DataFrame]:
    folder.mkdir(exist_ok=True)
    outcome = run(options, RunContext(folder, "cpu"))
    json.dumps(outcome.final, allow_nan=False)
    return outcome, pd.read_csv(folder / "autocorrelation.csv")


def by_hand(seed: int, draw: int) -> np.ndarray:
    """Gradients [inputs, pixels] of the plain network without normalization."""
    first, second = gaussian_batch(8, 1, 4, stream_seed("circle", seed, draw))[:2].double().flatten(1).numpy()
    across = second - first * (first @ second) / (first @ first)
    across *= np.linalg.norm(first) / np.linalg.norm(across)
    torch.manual_seed(stream_seed("weights", seed, draw))
    model: Any = create(
        "fully_connected", **{k: v for k, v in NETWORK.items() if k != "name"}, num_classes=1, in_channels=1
    )
    torch.nn.init.normal_(model.linear.weight, std=20**-0.5)
    matrices = [model.initial_conv.weight, *(layer.conv.weight for layer in model.stages[0])]
    stem, one, two = (matrix.detach().flatten(1).double().numpy() for matrix in matrices)
    last = model.linear.weight.detach().double().numpy()[0]
    rows = []
    for angle in 2 * math.pi * np.arange(16) / 16:
        x = stem @ (math.cos(angle) * first + math.sin(angle) * across)
        y = one @ np.maximum(x, 0)
        rows.append((((last @ two) * (y > 0)) @ one * (x > 0)) @ stem)
    return np.array(rows)


def test_numbers_and_table_by_hand(tmp_path: Path) -> None:
    outcome, table = execute(task(), tmp_path)
    plain, centred, sizes = [], [], []
    for draw in range(3):
        rows = by_hand(3, draw)
        for found, of in ((plain, rows), (centred, rows - rows.mean(0))):
            products = [np.mean([of[i] @ of[(i + lag) % 16] for i in range(16)]) for lag in range(9)]
            found.append(np.array(products) / products[0])
        sizes.append(math.sqrt(np.square(rows).mean()))
    np.testing.assert_allclose(table["degrees"], 22.5 * np.arange(9))
    np.testing.assert_allclose(table["correlation"], np.mean(plain, axis=0), atol=2e-5)
    np.testing.assert_allclose(table["autocorrelation"], np.mean(centred, axis=0), atol=2e-5)
    assert outcome.status == "completed"
    assert outcome.final == {
        "gradient_correlation": pytest.approx(np.mean(plain, axis=0)[4], abs=1e-5),
        "neighbour_autocorrelation": pytest.approx(np.mean(centred, axis=0)[1], abs=1e-5),
        "gradient_rms": pytest.approx(np.mean(sizes), rel=1e-4),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {**NETWORK, "normalization": "batch_norm"}},
        {
            "model": {"name": "bn_resnet", "blocks": [1], "width": 0.0625, "stem": "small"},
            "data": SYNTHETIC,
            "pixels": 8,
        },
        {"model": {"name": "skipinit_resnet", "blocks": [1, 1], "width": 0.0625, "stem": "small"}, "pixels": 8},
        {
            "model": {"name": "torchvision:resnet18"},
            "data": {**SYNTHETIC, "channels": 3},
            "pixels": 32,
            "inputs": 4,
        },
    ],
)
def test_it_runs_on_other_networks_and_inputs(tmp_path: Path, changes: dict[str, Any]) -> None:
    outcome, table = execute(task(**changes), tmp_path)
    assert outcome.status == "completed"
    assert outcome.final["gradient_rms"] > 0
    assert table.loc[0, ["correlation", "autocorrelation"]].tolist() == [1.0, 1.0]


def test_batch_norm_sees_the_batch(tmp_path: Path) -> None:
    options = {"model": {**NETWORK, "normalization": "batch_norm"}}
    small, large = (execute(task(**options, batch=batch), tmp_path)[0].final for batch in (6, 60))
    assert small != large


def test_a_linear_network_has_no_autocorrelation(tmp_path: Path) -> None:
    outcome, table = execute(task(model={**NETWORK, "activation": "identity"}), tmp_path)
    assert outcome.final["gradient_correlation"] == pytest.approx(1.0)
    assert outcome.final["neighbour_autocorrelation"] is None
    assert table["autocorrelation"].isna().all()


def test_seeds_and_repetition(tmp_path: Path) -> None:
    for name, seed in {"one": 3, "again": 3, "other": 4}.items():
        torch.manual_seed(len(name))  # whatever the process did before
        execute(task(seed=seed), tmp_path / name)
    one, again, other = ((tmp_path / name / "autocorrelation.csv").read_bytes() for name in ("one", "again", "other"))
    assert one == again
    assert one != other


def test_an_overflow_is_a_result(tmp_path: Path) -> None:
    complaints: list[str] = []
    options = task(model={**NETWORK, "connection": "residual", "depth": 20, "alpha": 1000.0})
    outcome = run(options, RunContext(tmp_path, "cpu", complain=complaints.append))
    assert (outcome.status, set(outcome.final.values())) == ("diverged", {None})
    assert complaints == ["gradients of initialisation 0 are not finite"]
    assert not list(tmp_path.iterdir())


def test_it_reports_and_stops_between_initialisations(tmp_path: Path) -> None:
    reports: list[Progress] = []
    ctx = RunContext(tmp_path, "cpu", report=reports.append, should_stop=lambda: len(reports) == 2)
    with pytest.raises(Interrupted):
        run(task(), ctx)
    assert [(report.done, report.total) for report in reports] == [(1, 3), (2, 3)]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": 0}, "greater than or equal to 4"),
        ({"inputs": 18}, "multiple of 4"),
        ({"draws": 0}, "greater than or equal to 1"),
        ({"pixels": 8}, "pixels: 8, but the network expects model.pixels: 4"),
    ],
)
def test_bad_options_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        task(**changes)


def test_a_network_without_a_linear_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="torchvision:squeezenet1_0: its classifier is not a linear layer"):
        execute(task(model={"name": "torchvision:squeezenet1_0"}, data=SYNTHETIC, pixels=32), tmp_path)
