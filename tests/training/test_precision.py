"""Training in bfloat16 on a processor that would emulate it: refused before it begins, and within a run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_loop import execute, task
from tiny_experiment import Call

from nfrepro.errors import InputError
from nfrepro.tasks.registry import TASKS
from nfrepro.training import precision
from nfrepro.training.context import RunContext

SMOKE = ("tiny", "--scale", "smoke")
BFLOAT16 = ("--set", "train.precision=bfloat16")
REASON = "train.precision: this processor has no bfloat16 instructions"


@pytest.fixture
def plain_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """As seen by processes that the test starts: no GPU, and no instructions later than AVX2."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.mark.parametrize("verb", [("plan",), ("sweep",), ("sweep", "--executor", "debug")], ids=" ".join)
@pytest.mark.usefixtures("plain_processor")
def test_it_is_refused_before_anything_is_written(nfrepro: Call, results: Path, verb: tuple[str, ...]) -> None:
    called = nfrepro(verb[0], *SMOKE, *verb[1:], *BFLOAT16)
    assert called.returncode == 2
    assert REASON in called.stderr
    assert called.stderr.startswith("nfrepro: nf_resnet8-")  # the run
    assert "--set train.precision=float32" in called.stderr
    assert not results.exists()


@pytest.mark.usefixtures("plain_processor")
def test_a_plan_for_another_machine_is_made(nfrepro: Call, tmp_path: Path) -> None:
    profile = tmp_path / "profile.yaml"
    profile.write_text("partition: main\ncpus_per_run: 2\ntimeout_min: 90\n")
    called = nfrepro("plan", *SMOKE, *BFLOAT16, "--cluster", str(profile))
    assert (called.returncode, called.stderr) == (0, "")


def test_a_run_that_begins_nevertheless_fails_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "is_emulated", lambda kind, device: kind == "bfloat16")
    with pytest.raises(InputError, match=REASON):
        execute(task(train={"precision": "bfloat16"}), tmp_path / "run")
    assert execute(task(), tmp_path / "other").status == "completed"


def test_float32_and_gpus_are_never_emulated() -> None:
    assert not precision.is_emulated("float32", "cpu")
    assert not precision.is_emulated("bfloat16", "cuda:0")


def arithmetic() -> tuple[str, str, str]:
    backends = torch.backends
    return backends.cudnn.conv.fp32_precision, backends.cudnn.rnn.fp32_precision, backends.cuda.matmul.fp32_precision


@pytest.fixture
def torchs_own_arithmetic() -> Iterator[None]:
    before = arithmetic()
    yield
    for backend, kind in zip((torch.backends.cudnn.conv, torch.backends.cudnn.rnn), before, strict=False):
        backend.fp32_precision = kind
    torch.backends.cuda.matmul.fp32_precision = before[2]


@pytest.mark.usefixtures("torchs_own_arithmetic")
def test_the_option_alone_decides_how_a_gpu_multiplies() -> None:
    torch.backends.cudnn.conv.fp32_precision = "tf32"  # as torch begins
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
    for kind, expected in [("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "ieee")]:
        precision.prepare_device("cpu", kind)
        assert arithmetic() == (expected, expected, expected)
        assert torch.backends.cudnn.allow_tf32 == (expected == "tf32")  # raises where the switches disagree
        assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)


@pytest.mark.usefixtures("torchs_own_arithmetic")
def test_a_measurement_within_a_run_is_in_float32() -> None:
    precision.prepare_device("cpu", "tf32")
    with precision.ieee_arithmetic():
        assert arithmetic() == ("ieee", "ieee", "ieee")
    assert arithmetic() == ("tf32", "tf32", "tf32")


# Those that compute on the device of the run; the others compute on the CPU, in float64.
TASKS_ON_A_DEVICE: dict[str, Any] = {
    "train": {"task": "train"},
    "probe": {"task": "probe", "set": {"model": {"name": "nf_resnet", "blocks": [1]}, "pixels": 32, "batch": 2}},
    "gradient_correlation": {
        "task": "gradient_correlation",
        "set": {"model": {"name": "nf_resnet", "blocks": [1], "stem": "small"}, "pixels": 8, "batch": 2, "inputs": 4},
    },
}


@pytest.mark.usefixtures("torchs_own_arithmetic")
@pytest.mark.parametrize("name", TASKS_ON_A_DEVICE)
def test_every_task_sets_it(tmp_path: Path, name: str) -> None:
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    if name == "train":
        execute(task(train={"epochs": 1}), tmp_path / "run")
    else:
        kind = TASKS[name]
        kind.run(
            kind.options.model_validate({"seed": 0, **TASKS_ON_A_DEVICE[name]["set"]}), RunContext(tmp_path, "cpu")
        )
    assert arithmetic() == ("ieee", "ieee", "ieee")


def test_tf32_is_another_run_and_on_a_cpu_the_same_numbers(tmp_path: Path) -> None:
    plain, tf32 = task(train={"epochs": 1}), task(train={"epochs": 1, "precision": "tf32"})
    assert plain.model_dump() != tf32.model_dump()
    finals = [execute(options, tmp_path / options.train.precision).final for options in (plain, tf32)]
    assert finals[0]["weights_sha256"] == finals[1]["weights_sha256"]
