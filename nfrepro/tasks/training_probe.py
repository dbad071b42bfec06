"""Signal propagation while a network trains: propagation.csv gets the statistics of every block at chosen steps."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from torch import Tensor, nn

from nfrepro import atomic
from nfrepro.errors import InputError
from nfrepro.signal import propagation

TABLE = "propagation.csv"


@dataclass(frozen=True)
class TrainingProbe:
    """Measures on `x` [N, C, H, W] after each of `steps`, and writes into `folder`; None: another process does."""

    x: Tensor
    steps: frozenset[int]
    folder: Path | None
    complain: Callable[[str], None]

    def measure(self, model: nn.Module, step: int) -> None:
        """Adds the rows of `step`, or replaces those that an interrupted execution of the run left."""
        if self.folder is None:
            return
        try:
            rows = propagation(model, self.x)
        except InputError as error:  # an overflow: training itself will say that it diverged
            self.complain(f"no signal measured after step {step}: {error}")
            return
        rows.insert(0, "step", step)
        replace_step(self.folder / TABLE, rows, step, by=["step", "block"])


def replace_step(path: Path, rows: pd.DataFrame, step: int, by: list[str], float_format: str | None = None) -> None:
    """Makes `rows` those of `step` in the csv `path`, sorted by the columns `by`; all others stay."""
    if path.exists():
        earlier = pd.read_csv(path)
        rows = pd.concat([earlier[earlier["step"] != step], rows])
    rows = rows.sort_values(by, kind="stable")
    atomic.write_text(path, rows.to_csv(index=False, lineterminator="\n", float_format=float_format))
