"""What a dry run concludes from what it hears, and how measurements are kept and found."""

import json
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from nfrepro.cost import measurements
from nfrepro.cost.dry_run import Heard, Order, conclude
from nfrepro.cost.measurements import Device, Measurement
from nfrepro.cost.shapes import find_shapes
from nfrepro.errors import InputError
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS
from nfrepro.tasks.work import Work

ORDER = Order("cpu", threads=1, steps=3, seconds=60.0)
WORK = Work(1000, 2000, 2000, activation_bytes=1_000_000, kept_weight_bytes=10, image_bytes=100_000)
TRIAL: dict[str, Any] = {
    "rows": 4,
    "steps": 3,
    "model_seconds": 2.0,
    "joint_seconds": 3.0,
    "loader_images_per_second": 500.0,
    "finite": True,
    "peak_bytes": 50_000_000,
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    path = tmp_path / "made_up.yaml"
    path.write_text(
        "title: t\ntask: train\nset:\n  data: {name: synthetic}\n  model: {name: nf_resnet, depth: 50}\n"
        "  train: {batch_size: 64, grad_accum_steps: 2}\nscales: {paper: {}}\n"
    )
    return expand(load_experiment(str(path), tmp_path), "paper", SCHEMAS)[0]


def heard(trial: dict[str, Any] | None, total: int = 10**9, **changes: Any) -> Heard:
    about = {"device": None, "total_bytes": total, "work": asdict(WORK)}
    found = Heard(doing="a step of 4 images", since=0.0, about=about, trial=trial)
    found.ended, found.code = {"problem": None, "memory": False}, 0
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def concluded(run: Run, found: Heard) -> Measurement:
    (shape,) = find_shapes([run])
    return conclude(shape, ORDER, found, now=55.0)


def test_a_few_rows_stand_for_a_batch(run: Run) -> None:
    found = concluded(run, heard(TRIAL))
    assert (found.status, found.how) == ("measured", "measured with 4 rows of 64")
    assert (found.model_rate, found.joint_rate, found.loader_rate) == (6.0, 4.0, 500.0)
    assert found.rate == 4.0
    # 28 more of the 32 rows that go through the network at once.
    assert found.peak_bytes == 50_000_000 + 28 * 1_100_000


def test_a_whole_batch_stands_for_itself(run: Run) -> None:
    found = concluded(run, heard(TRIAL | {"rows": 64, "joint_seconds": None}))
    assert (found.how, found.peak_bytes, found.rate) == ("measured, on random images", 50_000_000, 96.0)


@pytest.mark.parametrize(
    ("found", "status", "text"),
    [
        (heard(TRIAL, total=60_000_000), "memory", "needs 0.1 GB of 0.1 GB"),
        (heard(TRIAL | {"finite": False}), "not finite", "the loss is not finite"),
        (heard(None, ended=None, code=None), "slow", "too slow here: > 55 s for a step of 4 images"),
        (heard(TRIAL, ended=None, code=None), "measured", ""),
        (heard(TRIAL, ended=None, code=-signal.SIGKILL), "memory", "killed by the system"),
        (heard(None, ended=None, code=3), "failed", "exit status 3"),
        (heard(None, ended={"problem": "MemoryError: no", "memory": True}), "memory", "MemoryError: no"),
        (heard(None, ended={"problem": "KeyError: 'x'", "memory": False}), "failed", "KeyError: 'x'"),
    ],
)
def test_every_ending_has_a_name(run: Run, found: Heard, status: str, text: str) -> None:
    measurement = concluded(run, found)
    assert (measurement.status, measurement.text) == (status, text)


def test_measurements_are_found_again_where_they_hold(run: Run, tmp_path: Path) -> None:
    found = replace(concluded(run, heard(TRIAL)), device=Device("cpu", "a processor", 1), finished="2021-01-01")
    path = measurements.keep(found, tmp_path, run)
    assert path.parent == tmp_path / ".dry-run" / "made_up" / "paper"
    assert measurements.find(tmp_path, found.shape, "cpu", "a processor", 1) == found
    assert measurements.find(tmp_path, found.shape, "cpu", None, 1) == found
    for other in (("cpu", "another", 1), ("cpu", "a processor", 2), ("cuda", None, 1)):
        assert measurements.find(tmp_path, found.shape, *other) is None  # type: ignore[arg-type]
    assert measurements.find(tmp_path, "0" * 12, "cpu", None, 1) is None
    # A newer one of the same replaces it; one of another device stands beside it.
    newer = replace(found, finished="2021-02-01")
    assert measurements.keep(newer, tmp_path, run) == path
    assert measurements.keep(replace(found, device=Device("cpu", "another", 1)), tmp_path, run) != path
    assert measurements.find(tmp_path, found.shape, "cpu", None, 1) == newer


def test_measurements_of_other_versions_do_not_count(run: Run, tmp_path: Path) -> None:
    found = concluded(run, heard(TRIAL))
    path = measurements.keep(found, tmp_path, run)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"versions": content["versions"] | {"torch": "1.0"}}))
    assert measurements.find(tmp_path, found.shape, "cpu", None, 1) is None


def test_a_damaged_measurement_is_named(run: Run, tmp_path: Path) -> None:
    found = concluded(run, heard(TRIAL))
    path = measurements.keep(found, tmp_path, run)
    path.write_text(path.read_text()[:100])
    with pytest.raises(InputError, match=path.name):
        measurements.find(tmp_path, found.shape, "cpu", None, 1)
