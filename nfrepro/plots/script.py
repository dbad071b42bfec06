"""The frame of every script in analysis/: its options, its table, the path of its output, and its exit status."""

import argparse
import re
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nfrepro import atomic
from nfrepro.errors import InputError
from nfrepro.plots.comparison import Comparison, read_arms, setting
from nfrepro.plots.comparison_figure import draw_comparison
from nfrepro.plots.comparison_table import table_note, table_rows
from nfrepro.plots.learning_curves import draw_learning_curves, read_learning_curves
from nfrepro.plots.style import save_figure
from nfrepro.runs.store import runs_folder, scale_folder
from nfrepro.runs.table import overrides_suffix, read_table, table_path
from nfrepro.terminal import outlive_readers, printable, take_streams


@dataclass(frozen=True)
class Analysis:
    """The input of a script: an experiment's table, and the path of its output."""

    experiment: str
    scale: str
    table: pd.DataFrame  # the experiment's rows of runs.csv
    output: Path  # without a suffix: the script appends .png, .pdf, .md
    runs: Path  # the folder that holds those of the runs

    @property
    def table_path(self) -> Path:
        """The path of the table."""
        return self.output.with_name(f"runs{self.output.name.removeprefix(self.experiment)}.csv")


def run_script(experiment: str, description: str, analyse: Callable[[Analysis], Sequence[Path]]) -> None:
    """Call `analyse` on the collected table of `experiment` and print the paths it wrote; exit 2 on bad input."""
    draw(experiment, script_parser(description).parse_args(), analyse)


def script_parser(description: str) -> argparse.ArgumentParser:
    """The options of every script."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--scale", default="laptop", help="scale of the runs to draw")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder with the results")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="override given to the sweep")
    return parser


def draw(experiment: str, call: argparse.Namespace, analyse: Callable[[Analysis], Sequence[Path]]) -> None:
    """Do the same as `run_script`, with options that are already parsed."""
    take_streams()
    outlive_readers()
    try:
        analysis = read_analysis(call.results, experiment, call.scale, call.overrides)
        written = analyse(analysis)
        print("\n".join(map(str, written)))
        if removed := _remove_undrawn(analysis, {path.name for path in written}):
            print(f"removed, since the script draws them no more: {', '.join(removed)}")
    except InputError as error:
        sys.exit(_complain(str(error), 2))
    except OSError as error:
        sys.exit(_complain(f"{error.filename or 'system'}: {error.strerror or error}", 1))


def _remove_undrawn(analysis: Analysis, drawn: Collection[str]) -> list[str]:
    """Remove outdated output of the script and return the names of its files; sweeps with overrides are spared."""
    name, folder = re.escape(analysis.experiment), analysis.output.parent
    own = (path for path in folder.iterdir() if re.fullmatch(rf"{name}(_[^=~]*)?\.(png|pdf|svg|md)", path.name))
    undrawn = [path for path in sorted(own) if path.name not in drawn and analysis.output.name == analysis.experiment]
    for path in undrawn:
        path.unlink()
    return [path.name for path in undrawn]


def read_analysis(results: Path, experiment: str, scale: str, overrides: Sequence[str] = ()) -> Analysis:
    """The collected table of a sweep, and the path of its output."""
    table = read_table(table_path(results, experiment, scale, overrides))
    output = scale_folder(results, experiment, scale) / f"{experiment}{overrides_suffix(overrides)}"
    return Analysis(experiment, scale, table, output, runs_folder(results))


def compared(
    of: Comparison | Callable[[pd.DataFrame], Comparison], learning_curves: bool = False
) -> Callable[[Analysis], list[Path]]:
    """The analysis of a training experiment, for `run_script`: write and print the table, draw the figure.

    `of`: the comparison, or a function that makes it from the table if scales differ in their arms. With
    `learning_curves`, a second figure over epochs is drawn if runs were evaluated more than once.
    """

    def analyse(analysis: Analysis) -> list[Path]:
        comparison = of if isinstance(of, Comparison) else of(analysis.table)
        arms = read_arms(comparison, analysis.table, str(analysis.table_path))
        about = setting(comparison, analysis.table, analysis.scale)
        table = write_markdown(
            analysis.output, comparison.title, table_rows(comparison, arms), table_note(comparison, arms, about)
        )
        print(table.read_text())
        written = [table, *save_figure(draw_comparison(comparison, arms, about), analysis.output)]
        curves = read_learning_curves(analysis.runs, arms)
        if learning_curves and curves["epoch"].nunique() > 1:
            path = analysis.output.with_name(f"{analysis.output.name}_epochs")
            written += save_figure(draw_learning_curves(comparison, arms, curves, about), path)
        return written

    return analyse


def write_markdown(path: Path, title: str, rows: Sequence[dict[str, str]], note: str) -> Path:
    """Writes `path`.md: a table with a heading above and a note (n, method) below. Returns its full path."""
    columns = list(rows[0]) if rows else []
    lines = [f"**{title}**", "", "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(row[column] for column in columns) + " |" for row in rows]
    target = path.with_name(f"{path.name}.md")
    atomic.write_text(target, printable("\n".join([*lines, "", note, ""])))
    return target


def _complain(text: str, code: int) -> int:
    print(f"analysis: {text}", file=sys.stderr)
    return code
