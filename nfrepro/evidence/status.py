"""Where every run stands, from its own files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nfrepro.evidence import store
from nfrepro.specs import Run


def status(runs: Sequence[Run], results: Path) -> list[dict[str, Any]]:
    """`{id, state, progress, metrics}` of each run: progress from 0 to 1, metrics the newest row or None."""
    return [_status(run, store.read(store.run_folder(results, run))) for run in runs]


def _status(run: Run, stored: store.Stored) -> dict[str, Any]:
    newest = stored.metrics[-1] if stored.metrics else None
    return {"id": run.id, "state": stored.state, "progress": _progress(run, stored, newest), "metrics": newest}


def _progress(run: Run, stored: store.Stored, newest: dict[str, Any] | None) -> float:
    if stored.state in store.DONE:
        return 1.0
    epochs = run.config.get("train", {}).get("epochs")
    return newest["epoch"] / epochs if newest and epochs and "epoch" in newest else 0.0
