"""Shapes of runs, and hours, memory and disk by hand."""

from pathlib import Path
from typing import Any

import pytest

from nfrepro.cost import estimates
from nfrepro.cost.plan import side_by_side
from nfrepro.cost.shapes import find_shapes
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS
from nfrepro.tasks.work import Work

WORK = Work(
    parameters=1_000_000,
    multiply_adds=2_000_000_000,
    test_multiply_adds=3_000_000_000,
    activation_bytes=10_000_000,
    kept_weight_bytes=500_000,
    image_bytes=600_000,
    layers=50,
)
CONFIG: dict[str, Any] = {
    "train": {"epochs": 90, "batch_size": 1024, "grad_accum_steps": 4, "evaluate_every": 4, "ema_decay": None}
}


def runs_of(tmp_path: Path, grid: str) -> list[Run]:
    path = tmp_path / "made_up.yaml"
    path.write_text(
        "title: t\ntask: train\nset:\n  data: {name: synthetic}\n  model: {name: nf_resnet, depth: 50}\n"
        f"grid: {{{grid}}}\nscales: {{paper: {{}}}}\n"
    )
    return expand(load_experiment(str(path), tmp_path), "paper", SCHEMAS)


@pytest.mark.parametrize(
    ("grid", "labels"),
    [
        (
            "seed: [0, 1, 2], train.lr_per_256: [0.1, 0.2], model.alpha: [0.1, 0.2], train.epochs: [9, 90]",
            ["nf_resnet50"],
        ),
        ("model.skipinit_gain: [0.0, 0.5, 1.0], train.ema_decay: [0.9, 0.99]", ["nf_resnet50"]),
        ("model.depth: [50, 288], seed: [0, 1]", ["nf_resnet50", "nf_resnet288"]),
        (
            "train.ema_decay: [null, 0.99], seed: [0, 1]",
            ["nf_resnet50 train.ema_decay=null", "nf_resnet50 train.ema_decay=true"],
        ),
        (
            "model.depth: [50, 101], train.batch_size: [64, 128]",
            [f"nf_resnet{depth} train.batch_size={size}" for depth in (50, 101) for size in (64, 128)],
        ),
        (
            "data.pixels: [16, 32], train.precision: [float32, bfloat16]",
            [
                f"nf_resnet50 data.pixels={pixels} train.precision={precision}"
                for pixels in (16, 32)
                for precision in ("float32", "bfloat16")
            ],
        ),
    ],
)
def test_shapes_are_what_costs_differently(tmp_path: Path, grid: str, labels: list[str]) -> None:
    runs = runs_of(tmp_path, grid)
    shapes = find_shapes(runs)
    assert [shape.label for shape in shapes] == labels
    assert len({shape.key for shape in shapes}) == len(shapes)
    assert sorted(run.id for shape in shapes for run in shape.runs) == sorted(run.id for run in runs)


def test_a_shape_has_one_key_in_every_experiment(tmp_path: Path) -> None:
    (alone,) = find_shapes(runs_of(tmp_path, "model.depth: [101]"))
    assert alone.key in {shape.key for shape in find_shapes(runs_of(tmp_path, "model.depth: [50, 101], seed: [4]"))}


def test_steps_of_imagenet() -> None:
    schedule = estimates.Schedule.of(CONFIG, 1_281_167, 50_000)
    assert schedule == estimates.Schedule(steps=90 * 1251, images=90 * 1251 * 1024, evaluated_images=23 * 50_000)
    averaged = {"train": CONFIG["train"] | {"ema_decay": 0.99}}
    assert estimates.Schedule.of(averaged, 1_281_167, 50_000).evaluated_images == 2 * 23 * 50_000


def test_hours_by_hand() -> None:
    # 6 operations a multiply-add: 12 G an image, so 1 TFLOP/s is 83.3 images/s.
    rate = estimates.estimated_images_per_second(WORK, 1024, 1.0)
    assert not estimates.limited_by_launches(WORK, 1024, 1.0)
    assert rate == pytest.approx(1000 / 12)
    # An evaluated image costs 1.5 times a third of a trained one.
    schedule = estimates.Schedule(steps=10, images=300_000, evaluated_images=100_000)
    assert estimates.run_hours(schedule, WORK, rate) == pytest.approx(350_000 * 12 / 1000 / 3600)


def test_launching_a_layer_takes_time_however_few_its_images() -> None:
    # 50 layers of 0.6 ms; the operations of two images take 24 ms at 1 TFLOP/s, those of four 48 ms.
    assert estimates.estimated_images_per_second(WORK, 2, 1.0) == pytest.approx(2 / 0.030)
    assert estimates.estimated_images_per_second(WORK, 4, 1.0) == pytest.approx(4 / 0.048)
    assert [estimates.limited_by_launches(WORK, rows, 1.0) for rows in (2, 4)] == [True, False]


def test_runs_side_by_side_by_hand() -> None:
    assert side_by_side([1.0, 2.0, 3.0], 1) == 6.0
    assert side_by_side([1.0, 2.0, 3.0], 2) == 4.0  # the third begins when the first ends
    assert side_by_side([1.0, 2.0, 3.0], 1000) == 3.0
    assert side_by_side([], 4) == 0.0


def test_memory_and_disk_by_hand() -> None:
    # Weights, gradients and momentum of 4 MB each.
    assert estimates.peak_bytes(WORK, 10, "float32", ema=False) == 12_000_000 + 500_000 + 10 * 10_600_000
    assert estimates.peak_bytes(WORK, 10, "float32", ema=True) == 16_000_000 + 500_000 + 10 * 10_600_000
    assert estimates.peak_bytes(WORK, 10, "bfloat16", ema=False) == 12_000_000 + 500_000 + 10 * 5_900_000
    assert estimates.rows_at_once(CONFIG) == 256
    assert estimates.rows_at_once(CONFIG, processes=8) == 128
    assert estimates.checkpoint_bytes(WORK, ema=False) == 8_000_000
