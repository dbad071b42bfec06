"""A completed run as claims see it: its numbers, and its curves if it is a probe."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nfrepro import atomic
from nfrepro.errors import InputError
from nfrepro.runs.propagation_curves import TABLE

# The runs that a quantity takes: those of `where`, those of `against` as well, or those of any number of named arms.
Selections = Literal["where", "two", "arms"]
Blocks = Literal["all", "stage_ends", "transitions"]
Extreme = Literal["largest", "smallest"]

EXTREMES = {"largest": np.max, "smallest": np.min}
BLOCKS = {"all": "all blocks", "stage_ends": "stage ends", "transitions": "transition blocks"}


class NoValue(ValueError):
    """A completed run does not have the number that was asked for; the text says why."""


@dataclass(frozen=True)
class MeasuredRun:
    """A completed run: its row of runs.csv and, if it is a probe, its curves."""

    row: Mapping[str, Any]
    folder: Path

    def number(self, column: str) -> float:
        """The number in a column. Raises `NoValue` if the cell is empty or not a finite number."""
        try:
            value = float(self.row[column])
        except (TypeError, ValueError):
            raise NoValue(f"run {self.row['id']}: {column} is {self.row[column]!r}, which is no number") from None
        if not np.isfinite(value):
            raise NoValue(f"run {self.row['id']}: no finite {column}")
        return value

    def curve(self, statistic: str) -> pd.DataFrame:
        """Rows of (block, stage, transition, measured, predicted). Raises `NoValue` if empty, `InputError` if bad."""
        of = self._long_form
        curve = of[of["statistic"] == statistic].sort_values("block").reset_index(drop=True)
        if curve.empty:
            raise NoValue(f"run {self.row['id']}: no {statistic} in its {TABLE}")
        return curve

    def values(
        self,
        statistic: str,
        at: Blocks = "all",
        stages: Sequence[int] | None = None,
        kind: Literal["measured", "predicted"] = "measured",
    ) -> NDArray[np.float64]:
        """The measured or predicted values of `statistic` at these blocks of these stages (None: of all), in order.

        Raises `NoValue` if there is none or one is not finite.
        """
        curve = self.curve(statistic)
        among = chosen(curve, at)
        if stages is not None:
            among = among & curve["stage"].isin(stages).to_numpy(bool)
        values: NDArray[np.float64] = curve[kind].to_numpy(float)[among]
        if values.size == 0 or not np.isfinite(values).all():
            raise NoValue(f"run {self.row['id']}: no finite {kind} {statistic} at {blocks_text(at, stages)}")
        return values

    @cached_property
    def _long_form(self) -> pd.DataFrame:
        path = self.folder / TABLE
        try:
            table = pd.read_csv(io.BytesIO(atomic.read_bytes(path)))
            table = table if "predicted" in table else table.assign(predicted=np.nan)
            return table[["block", "stage", "transition", "statistic", "measured", "predicted"]]
        except FileNotFoundError:
            raise NoValue(f"run {self.row['id']}: no {TABLE}") from None
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: cannot be read ({error}): redo the run with --force") from None


def blocks_text(at: Blocks, stages: Sequence[int] | None = None) -> str:
    """The selected blocks in words."""
    if stages is None:
        return BLOCKS[at]
    return f"{BLOCKS[at]} of stage{'' if len(stages) == 1 else 's'} {', '.join(map(str, stages))}"


def chosen(curve: pd.DataFrame, at: Blocks) -> NDArray[np.bool_]:
    """A mask of the rows of a curve that are selected."""
    if at == "transitions":
        return np.asarray(curve["transition"], dtype=bool)
    if at == "stage_ends":
        ends = curve.groupby("stage")["block"].transform("max")
        return np.asarray(curve["block"] == ends, dtype=bool)
    return np.ones(len(curve), dtype=bool)
