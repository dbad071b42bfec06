"""Provenance: what is in it, and what must never be."""

import json
import subprocess
from pathlib import Path

import pytest

from nfrepro.runs import provenance as module


def test_no_environment_but_the_allowed_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "do-not-tell")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    module.provenance.cache_clear()
    found = module.provenance()
    module.provenance.cache_clear()
    assert found["environment"]["OMP_NUM_THREADS"] == "3"
    assert "do-not-tell" not in json.dumps(found)
    assert found["versions"]["torch"]
    assert found["processor"]


def test_dirty_means_changed_code_not_new_results(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    assert module.git_revision(tmp_path) is None
    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "run.json").write_text("{}")
    revision = module.git_revision(tmp_path)
    assert revision is not None
    assert len(revision["sha"]) == 40
    assert revision["dirty"] is False
    (tmp_path / "code.py").write_text("2")
    assert module.git_revision(tmp_path)["dirty"] is True  # type: ignore[index]
