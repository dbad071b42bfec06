"""Checkpoints as the training loop reads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nfrepro.training import checkpoint


def load_newest(folder: Path, report: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest intact state of the run in `folder`; None if there is none. Others are reported."""
    content = checkpoint.read_newest(folder, report)
    return None if content is None else checkpoint.parse(content)
