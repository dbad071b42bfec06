"""The same loop on a GPU: learns, resumes, and is as exact as on a CPU. Skipped where there is none."""

import copy
import json
from pathlib import Path
from typing import Any

import pair
import pytest
import torch
import torch.nn.functional as F
from test_loop import execute_on, task, without_times

from nfrepro.models import convolutions, create
from nfrepro.models.effective_weights import EffectiveWeights
from nfrepro.tasks.options import TrainTask
from nfrepro.training import callbacks
from nfrepro.training.context import Interrupted
from nfrepro.training.precision import prepare_device

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

NETWORKS: dict[str, dict[str, Any]] = {
    "nf": {"name": "nf_resnet", "blocks": [1, 1], "width": 0.125, "stem": "imagenet"},
    "nf-stochastic": {
        **{"name": "nf_resnet", "blocks": [1, 1], "width": 0.125, "stem": "small", "squeeze_excite": "end"},
        **{"dropout": 0.3, "stochastic_depth": 0.3},
    },
    "bn": {"name": "bn_resnet", "blocks": [1, 1], "width": 0.125, "stem": "small"},
    "gn": {"name": "gn_ws_resnet", "blocks": [1, 1], "width": 0.25, "stem": "small", "norm_groups": 4},
    "regnet": {"name": "nf_regnet", "variant": "b0", "width": 0.3},
}
TRAIN = {"epochs": 2, "ema_decay": 0.9, "clip_factor": 0.1}


def options(network: str, **train: Any) -> Any:
    """A training of one of `NETWORKS`."""
    config = task(data={"pixels": 32, "channels": 3}, train={**TRAIN, **train}).model_dump()
    return TrainTask.model_validate({**config, "model": NETWORKS[network]})


@pytest.fixture
def looks_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise so short a run is only stopped between epochs."""
    monkeypatch.setattr(callbacks, "GPU_STEPS_BETWEEN_LOOKS", 1)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.usefixtures("looks_at_every_step")
def test_stopped_within_an_epoch_and_resumed(tmp_path: Path, network: str, precision: str) -> None:
    chosen = options(network, precision=precision)
    undisturbed = execute_on("cuda:0", chosen, tmp_path / "undisturbed")
    looks = iter(range(1, 100))
    with pytest.raises(Interrupted):
        execute_on("cuda:0", chosen, tmp_path / "run", should_stop=lambda: next(looks) >= 3)
    torch.randn(999, device="cuda")
    resumed = execute_on("cuda", chosen, tmp_path / "run")  # without a number: what SLURM says
    assert without_times(resumed.final) == without_times(undisturbed.final)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.usefixtures("looks_at_every_step")
def test_a_cuda_graph_has_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str) -> None:
    chosen = options(network, epochs=3, precision="bfloat16")
    with monkeypatch.context() as patch:
        patch.setenv("NFREPRO_CUDA_GRAPH", "0")
        eager = execute_on("cuda:0", chosen, tmp_path / "eager")
    graphed = execute_on("cuda:0", chosen, tmp_path / "graphed")
    assert without_times(graphed.final) == without_times(eager.final)
    looks = iter(range(1, 100))
    with pytest.raises(Interrupted):
        execute_on("cuda:0", chosen, tmp_path / "run", should_stop=lambda: next(looks) >= 6)
    assert without_times(execute_on("cuda:0", chosen, tmp_path / "run").final) == without_times(eager.final)


@pytest.mark.parametrize("parts", [1, 2])
def test_the_gpu_agrees_with_the_cpu(tmp_path: Path, parts: int) -> None:
    losses = []
    for device in ("cpu", "cuda:0"):
        execute_on(device, options("nf", epochs=1, grad_accum_steps=parts), tmp_path / device.replace(":", ""))
        losses.append(json.loads((tmp_path / device.replace(":", "") / "metrics.jsonl").read_text())["train_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("way", ["all filters at once", "as BatchNorm", "operator by operator"])
@pytest.mark.parametrize("epsilon", ["floor", "sum", "timm"])
def test_every_way_to_standardize_agrees_with_float64(monkeypatch: pytest.MonkeyPatch, way: str, epsilon: str) -> None:
    prepare_device("cuda:0", "float32")
    if way == "operator by operator":
        monkeypatch.setattr(convolutions, "_StandardizeAsBatchNorm", convolutions._Standardize)
    model: Any = create("nf_resnet", num_classes=4, blocks=[1, 1], width=0.125, stem="small", ws_epsilon=epsilon)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        model.scaled_convolutions()[1].convolution.weight[:3] *= 1e-5  # on the floor
    x, labels = torch.randn(4, 3, 16, 16), torch.arange(4)
    exact = copy.deepcopy(model).double()
    F.cross_entropy(exact(x.double()), labels).backward()
    model = model.to("cuda").to(memory_format=torch.channels_last)
    x, labels = x.cuda().to(memory_format=torch.channels_last), labels.cuda()
    if way == "all filters at once":
        weights = EffectiveWeights(model)
        assert weights.table is not None
        with weights.for_training(torch.float32, 1) as effective:
            F.cross_entropy(model(x), labels).backward()
            effective.finish()
    else:
        F.cross_entropy(model(x), labels).backward()
    for ours, theirs in zip(model.parameters(), exact.parameters(), strict=True):
        assert (ours.grad.double().cpu() - theirs.grad).norm() <= 2e-4 * theirs.grad.norm() + 1e-9


def test_a_step_waits_for_nothing(tmp_path: Path) -> None:
    from nfrepro.bench.gpu_check import timing

    ready = timing.prepared(timing.task({"name": "nf_resnet", **timing.SMALL}, 16), "cuda:0")
    ready.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        ready.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


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
