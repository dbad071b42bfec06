"""A project folder with code in it, searched for one test."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nfrepro.plugins.names import search_folders, search_in

Write = Callable[[str, str], Path]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a file of the project, given its path in the project's folder and its text."""
    before = search_folders()
    monkeypatch.setattr("sys.path", list(sys.path))

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        search_in([tmp_path])
        return path

    search_in([tmp_path])
    yield write
    search_in(before)
