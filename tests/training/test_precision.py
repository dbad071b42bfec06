"""Training in bfloat16 on a processor that would emulate it: refused before it begins, and within a run."""

from pathlib import Path

import pytest
from test_loop import execute, task
from tiny_experiment import Call

from nfrepro.errors import InputError
from nfrepro.training import precision

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
