"""The same loop on a GPU: learns, and resumes. Skipped where there is none."""

import json
from pathlib import Path

import pair
import pytest
import torch
from test_loop import execute_on, task, without_times

from nfrepro.tasks.job import Interrupted

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_stopped_and_resumed_on_a_gpu(tmp_path: Path, precision: str) -> None:
    options = task(train={"precision": precision, "epochs": 6})
    undisturbed = execute_on("cuda:0", options, tmp_path / "undisturbed")
    looks = iter(range(1, 100))
    with pytest.raises(Interrupted):
        execute_on("cuda:0", options, tmp_path / "run", should_stop=lambda: next(looks) >= 3)
    resumed = execute_on("cuda:0", options, tmp_path / "run")
    assert without_times(resumed.final) == without_times(undisturbed.final)


def test_the_gpu_agrees_with_the_cpu(tmp_path: Path) -> None:
    options = task(train={"epochs": 1})
    losses = []
    for device in ("cpu", "cuda:0"):
        execute_on(device, options, tmp_path / device.replace(":", ""))
        losses.append(json.loads((tmp_path / device.replace(":", "") / "metrics.jsonl").read_text())["train_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_as_one_and_continue(tmp_path: Path) -> None:
    options = task(
        train={"epochs": 20, "grad_accum_steps": 2},
        model={"name": "bn_resnet", "blocks": [1, 1], "width": 0.0625, "stem": "small"},
    )
    single = execute_on("cuda:0", options, tmp_path / "one")
    two = pair.Pair("cuda")
    try:
        undisturbed, _ = two(pair.train, options, tmp_path / "two", None, "cuda")
        assert undisturbed["test_loss"] == pytest.approx(single.final["test_loss"], rel=1e-2)
        assert two(pair.train, options, tmp_path / "run", 2, "cuda") == [None, None]
        resumed, _ = two(pair.train, options, tmp_path / "run", None, "cuda")
        assert without_times(resumed) == without_times(undisturbed)
    finally:
        two.close()
