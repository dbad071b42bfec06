"""Files that exist whole or not at all."""

import errno
import fcntl
import os
import stat
import time
from pathlib import Path

import pytest

from nfrepro import atomic


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")
    atomic.write_text(path, "new: ä")
    assert path.read_text(encoding="utf-8") == "new: ä"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if broken == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="No space left") as failed:
        atomic.write_text(path, "new")
    assert broken == "replace" or failed.value.filename == str(path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_files_have_ordinary_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic.write_text(path, "x")
    other = tmp_path / "b.txt"
    other.write_text("x")
    assert path.stat().st_mode == other.stat().st_mode


def test_only_regular_files_are_read_and_no_other_is_waited_for(tmp_path: Path) -> None:
    path, pipe = tmp_path / "a.txt", tmp_path / "pipe"
    path.write_bytes(b"x")
    os.mkfifo(pipe)
    assert atomic.read_bytes(path) == b"x"
    for other in (pipe, tmp_path, Path("/dev/null")):
        with pytest.raises(OSError, match="not a regular file") as refused:
            atomic.read_bytes(other)
        assert refused.value.filename == str(other)
    with pytest.raises(FileNotFoundError):
        atomic.read_bytes(tmp_path / "missing")


def test_temporary_files_of_killed_writers_are_removed_and_of_living_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, other, young = (tmp_path / name for name in (".a.txt.1.tmp", ".b.txt.1.tmp", ".a.txt.2.tmp"))
    for path in (left, other, young):
        path.touch()
    os.utime(left, (0, 0))
    os.utime(other, (0, 0))

    def sync(descriptor: int) -> None:  # of a writer that is in the middle
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            return
        (writing,) = {*tmp_path.glob(".a.txt.*.tmp")} - {left, young}
        os.utime(writing, (0, 0))
        atomic.remove_half_written(tmp_path / "a.txt")
        assert {*tmp_path.iterdir()} == {other, young, writing}

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        atomic.write_text(tmp_path / "a.txt", "x", durable=True)
    assert {*tmp_path.iterdir()} == {other, young, tmp_path / "a.txt"}


def test_without_locks_the_temporary_files_of_an_hour_ago_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    old, recent = tmp_path / ".a.txt.1.tmp", tmp_path / ".a.txt.2.tmp"
    for path, seconds in ((old, 4000), (recent, 3000)):
        path.touch()
        os.utime(path, (time.time() - seconds,) * 2)
    atomic.remove_half_written(tmp_path / "a.txt")
    assert [*tmp_path.iterdir()] == [recent]
