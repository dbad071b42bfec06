"""Networks that were measured while they trained: the measurements, their accuracy, and a table of both."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nfrepro.plots.comparison import Arm, Comparison, read_arms, setting
from nfrepro.plots.comparison_table import table_note, table_rows
from nfrepro.plots.learning_curves import read_learning_curves
from nfrepro.plots.script import Analysis, write_markdown
from nfrepro.runs.propagation_curves import check_some, read_curves, seeds_drawn, unfinished


@dataclass(frozen=True)
class WatchedTraining:
    """Measurements and accuracies by network, in the order of the comparison; without rows if nothing is known."""

    comparison: Comparison
    arms: list[Arm]
    curves: dict[str, pd.DataFrame]  # rows of the file of all its completed runs, with their seeds
    accuracy: dict[str, pd.DataFrame]  # seed, epoch, train_top1 and test_top1 of all its completed runs
    about: str  # the setting of the runs
    note: str  # the same, and the meaning of lines and bands

    def write_table(self, analysis: Analysis, further: Callable[[pd.DataFrame], dict[str, str]]) -> Path:
        """Writes the table of the comparison, with `further` columns made of each arm's completed runs."""
        completed = analysis.table[analysis.table["state"] == "completed"]
        rows = [
            row | further(completed[completed["id"].isin(arm.ids)])
            for row, arm in zip(table_rows(self.comparison, self.arms), self.arms, strict=True)
        ]
        title, note = self.comparison.title, table_note(self.comparison, self.arms, self.about)
        return write_markdown(analysis.output, title, rows, note)


def read_watched(comparison: Comparison, analysis: Analysis, file: str) -> WatchedTraining:
    """The networks on the axis of `comparison`, each an arm. Raises `InputError` if no run is completed, if a run lacks
    its `file`, and as `read_arms` does."""
    table, folder = analysis.table, analysis.runs
    arms = read_arms(comparison, table, str(analysis.table_path))
    curves = read_curves(table, folder, lambda row: str(comparison.axis.level(row)), file)
    check_some(curves, table, analysis.experiment)
    nothing = next(iter(curves.values())).iloc[:0]
    epochs = read_learning_curves(folder, arms).merge(table[["id", "seed"]], on="id")
    done = set(table.loc[table["state"] == "completed", "id"])
    about = setting(comparison, table, analysis.scale)
    drawn = f"Line: mean of n = {seeds_drawn(curves)} seeds, band: their range."
    return WatchedTraining(
        comparison,
        arms,
        curves={str(arm.key[0]): curves.get(str(arm.key[0]), nothing) for arm in arms},
        accuracy={str(arm.key[0]): epochs[epochs["id"].isin(done & {*arm.ids})] for arm in arms},
        about=about,
        note=f"{about}. {drawn}{unfinished(table)}",
    )
