"""Checkpoints: two kept, damage noticed, nothing executed from them."""

import hashlib
import io
import os
from pathlib import Path

import pytest
import torch
from newest_checkpoint import load_newest

from nfrepro.training import checkpoint


def test_the_newest_two_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, step, {"step": step, "weight": torch.full((3,), float(step))})
    assert len(list(tmp_path.iterdir())) == 2
    state = load_newest(tmp_path, pytest.fail)
    assert state is not None
    assert state["step"] == 10
    assert torch.equal(state["weight"], torch.full((3,), 10.0))
    checkpoint.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty"])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    checkpoint.save(tmp_path, 1, {"step": 1})
    newest = checkpoint.save(tmp_path, 2, {"step": 2})
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"truncated": content[:-7], "altered": content, "empty": b""}[damage])
    complaints: list[str] = []
    state = load_newest(tmp_path, complaints.append)
    assert state == {"step": 1, "run": tmp_path.name}
    assert complaints == [f"{newest}: checksum does not match, falling back to the checkpoint before it"]


def test_a_named_pipe_in_place_of_the_newest_is_not_waited_for(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {"step": 1})
    newest = checkpoint.save(tmp_path, 2, {"step": 2})
    newest.unlink()
    os.mkfifo(newest)
    complaints: list[str] = []
    assert load_newest(tmp_path, complaints.append) == {"step": 1, "run": tmp_path.name}
    assert complaints == [f"{newest}: not a regular file, falling back to the checkpoint before it"]


def test_no_checkpoint(tmp_path: Path) -> None:
    assert load_newest(tmp_path, pytest.fail) is None


def test_a_hostile_checkpoint_executes_nothing(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "owned",))  # type: ignore[return-value]

    buffer = io.BytesIO()
    torch.save({"step": Hostile()}, buffer)
    content = buffer.getvalue()
    name = f"checkpoint-{1:09d}-{hashlib.sha256(content).hexdigest()[:16]}.pt"
    (tmp_path / name).write_bytes(content)
    complaints: list[str] = []
    assert load_newest(tmp_path, complaints.append) is None
    assert complaints == [
        f"{tmp_path / name}: cannot be parsed (UnpicklingError), falling back to the checkpoint before it"
    ]
    assert not (tmp_path / "owned").exists()


def test_one_of_another_run_is_left_out_by_name(tmp_path: Path) -> None:
    mine, other = tmp_path / "seed1", tmp_path / "seed0"
    for folder, step in ((mine, 3), (other, 9)):
        folder.mkdir()
        checkpoint.save(folder, step, {"step": step})
    foreign = next(other.iterdir()).rename(mine / next(other.iterdir()).name)
    complaints: list[str] = []
    state = load_newest(mine, complaints.append)
    assert state is not None
    assert state["step"] == 3
    assert complaints == [f"{foreign}: it is of another run, seed0, falling back to the checkpoint before it"]


def test_one_from_before_runs_were_named_is_taken(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"step": 4}, buffer)
    content = buffer.getvalue()
    (tmp_path / f"checkpoint-{4:09d}-{hashlib.sha256(content).hexdigest()[:16]}.pt").write_bytes(content)
    assert load_newest(tmp_path, pytest.fail) == {"step": 4}
