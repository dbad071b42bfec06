"""The output of one run under any executor: the logs of its jobs, its evaluations, its progress, its error."""

import os
from collections.abc import Iterator
from pathlib import Path

from nfrepro import atomic
from nfrepro.launch import submitted
from nfrepro.runs import progress, redo, store
from nfrepro.specs import Run


class RunLog:
    """Reads the log so far, and after that only what is new."""

    def __init__(self, run: Run, results: Path) -> None:
        self.run, self.results = run, results
        self.folder = store.run_folder(results, run)
        self._read: dict[Path, int] = {}  # bytes of each log that were read
        self._rows = 0
        self._told: tuple[str, str] = ("", "")  # progress and error that were shown
        self._title: Path | None = None

    def news(self) -> Iterator[str]:
        """New pieces of text, each to be ended by a newline, with a title whenever the file changes."""
        for path in submitted.logs(self.results, self.run):
            yield from self._piece(path, self._rest(path))
        work = redo.work_folder(self.folder)  # that of a redo, until it replaces the result
        rows = store.read_metrics(work)
        yield from self._piece(work / store.METRICS, "\n".join(map(_in_words, rows[self._rows :])))
        self._rows = len(rows)
        reached, error = self._told
        self._told = (self._reached(), _error(work))
        if self._told[0] != reached:
            yield from self._piece(self.folder / progress.PROGRESS, self._told[0])
        if self._told[1] != error:
            yield from self._piece(work / store.ERROR, self._told[1])

    def _piece(self, path: Path, text: str) -> Iterator[str]:
        if not text:
            return
        if path != self._title:
            yield f"==> {path} <=="
            self._title = path
        yield text.removesuffix("\n")

    def _rest(self, path: Path) -> str:
        """The rest of a file up to its last complete line, since more may be on its way."""
        with os.fdopen(atomic.open_to_read(path), "rb") as file:
            file.seek(self._read.get(path, 0))
            whole, end, _ = file.read().rpartition(b"\n")
        self._read[path] = self._read.get(path, 0) + len(whole + end)
        return whole.decode(errors="replace")

    def _reached(self) -> str:
        found = progress.read(self.folder)
        return f"{found.step}/{found.steps}  {found.text}" if found else ""


def _error(work: Path) -> str:
    try:
        return atomic.read_bytes(work / store.ERROR).decode("utf-8", "replace")
    except OSError:
        return ""


def _in_words(row: dict[str, object]) -> str:
    return "  ".join(
        f"{name} {value:.5g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
    )
