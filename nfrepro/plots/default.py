"""Table and figure of an experiment without a script of its own: its numbers by what its runs differ in.

    python -m nfrepro.plots.default EXP --scale SCALE

Accuracies become a `Comparison` along the axes of the experiment; signal propagation becomes its plot; for other
runs the first number is drawn and all are listed.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from nfrepro.errors import InputError
from nfrepro.plots.comparison import NEEDED, Comparison, Factor, number
from nfrepro.plots.propagation_figure import draw_propagation
from nfrepro.plots.script import Analysis, compared, draw, script_parser, write_markdown
from nfrepro.plots.style import PALETTE, entitle, new_figure, save_figure
from nfrepro.runs.final_numbers import headline, result_numbers
from nfrepro.runs.propagation_curves import TABLE, read_curves, seeds_drawn, unfinished
from nfrepro.runs.store import read_record
from nfrepro.stats.intervals import mean_interval

MOST_PANELS = 4
LEAST_RATIO = 4.0  # of the largest to the smallest number on an axis, from which on it is logarithmic
BLANK = "-"  # level of a run that has no such option
FRONT = ("id", "state", "in_experiment", "seed", "error")  # columns that are neither options nor numbers
NAME = "model.name"


def analyse(analysis: Analysis) -> Sequence[Path]:
    """Draw accuracies, signal propagation, or the first of the final numbers, whichever there is."""
    final = final_values(analysis)
    factors, others = find_factors(analysis.table, final)
    if "top1" in final and set(NEEDED) <= set(analysis.table):
        return compared(arrange(analysis.experiment, analysis.table, factors, others), learning_curves=True)(analysis)
    return _list_and_draw(analysis, factors, result_numbers(final))


def final_values(analysis: Analysis) -> dict[str, Any]:
    """Name -> an example of each final value of the completed runs. Raises `InputError` if no run is completed."""
    done = analysis.table.loc[analysis.table["state"] == "completed", "id"]
    records = [record for name in done if (record := read_record(analysis.runs / str(name)))]
    if not records:
        raise InputError(f"{analysis.experiment}: no run is completed:{unfinished(analysis.table)}")
    found: dict[str, Any] = {}
    for record in records:
        found |= record.get("final") or {}
    return found


def find_factors(table: pd.DataFrame, final: Container[str]) -> tuple[list[Factor], tuple[str, ...]]:
    """The options in which runs differ, and those that follow from them, such as a rate that goes with a batch size."""
    columns = [str(name) for name in table if name not in FRONT and not str(name).startswith("provenance.")]
    options = [name for name in columns if name not in final]
    texts = table[options].astype(object).where(table[options].notna(), BLANK).astype(str)
    varied = [name for name in options if _varies(texts, name)]
    kept = list(varied)
    for name in reversed(varied):
        rest = [other for other in kept if other != name]
        if name != NAME and rest and (texts.groupby(rest)[name].nunique() == 1).all():
            kept = rest
    return [_factor(table, name) for name in kept], tuple(name for name in varied if name not in kept)


def _varies(texts: pd.DataFrame, name: str) -> bool:
    """Whether runs differ in an option; an option that only some families of networks have is blank in the others."""
    if not name.startswith("model."):
        return bool(texts[name].nunique() > 1)
    known = texts.loc[texts[name] != BLANK, name].nunique() > 1
    return bool(known or (NAME in texts and (texts.groupby(NAME)[name].nunique() > 1).any()))


def _factor(table: pd.DataFrame, name: str) -> Factor:
    """The factor of an option: numeric if all runs have a number, else a category."""
    values = table[name]
    if pd.api.types.is_numeric_dtype(values) and values.dtype != bool and values.notna().all():
        logarithmic = values.min() > 0 and values.max() / values.min() >= LEAST_RATIO
        return number(name, name, scale="logarithmic" if logarithmic else "linear")
    known = sorted(values.dropna().unique())
    return Factor(name, (name,), lambda row: _text(row[name]), tuple(map(_text, known)))


def _text(value: Any) -> str:
    if pd.isna(value):
        return BLANK
    return f"{value:g}" if isinstance(value, float) else str(value)


def arrange(title: str, table: pd.DataFrame, factors: Sequence[Factor], others: tuple[str, ...] = ()) -> Comparison:
    """The comparison along `factors`: numbers on the axis, factors of few levels in panels, the rest as lines."""
    if not factors:
        return Comparison(title, Factor(NAME, (NAME,), lambda row: str(row[NAME]), also=others), without_references="")
    named = f"{title} by {' and '.join(factor.name for factor in factors)}"
    axis = max(factors, key=lambda factor: factor.scale != "category")
    rest = [factor for factor in factors if factor is not axis]
    few = [factor for factor in rest if factor.name != NAME and table[factor.name].nunique() < MOST_PANELS]
    panel = few[-1] if few and len(rest) > 1 else None
    lines = [factor for factor in rest if factor is not panel]
    titled = replace(panel, level=_with_name(panel), scale="category") if panel else None
    return Comparison(named, replace(axis, also=others), combined(lines), titled, without_references="")


def _with_name(factor: Factor) -> Callable[[pd.Series], str]:
    """The level with the name of its option, as the title of a panel."""
    return lambda row: f"{factor.name} {factor.text(factor.level(row))}"


def combined(factors: Sequence[Factor]) -> Factor | None:
    """One factor whose levels are the combinations of those of `factors`; None if there are none."""
    if len(factors) < 2:
        return factors[0] if factors else None
    return Factor(
        ", ".join(factor.name for factor in factors),
        tuple(column for factor in factors for column in factor.columns),
        lambda row: ", ".join(factor.text(factor.level(row)) for factor in factors),
    )


def _list_and_draw(analysis: Analysis, factors: Sequence[Factor], numbers: Mapping[str, float]) -> list[Path]:
    """Write a table with a row per arm and number, and draw the curves, or else the first number."""
    arms = combined(factors)
    table = analysis.table.assign(arm=[_label(arms, row) for _, row in analysis.table.iterrows()])
    done = {str(arm): runs[runs["state"] == "completed"] for arm, runs in table.groupby("arm", sort=False)}
    heading, first = arms.name if arms else "runs", headline(numbers)
    if first is None:
        raise InputError(f"{analysis.experiment}: its runs report no numbers, so there is nothing to draw")
    rows = [
        {heading: arm, "number": name, "mean": mean_interval(values).text(4), "n": str(len(values))}
        for arm, runs in done.items()
        for name in dict.fromkeys((first, *numbers))
        if (values := runs[name].dropna().tolist()) or name == first
    ]
    title, note = f"{analysis.experiment}, scale {analysis.scale}", "95 % Student t interval over completed runs."
    written = write_markdown(analysis.output, title, rows, note + unfinished(table))
    if all((analysis.runs / str(name) / TABLE).exists() for runs in done.values() for name in runs["id"]):
        curves = read_curves(table, analysis.runs, lambda row: str(row["arm"]))
        note = f"Line: mean of n = {seeds_drawn(curves)} initialisations, band: their range.{unfinished(table)}"
        return [written, *save_figure(draw_propagation(curves, title, note), analysis.output)]
    by_arm = {arm: runs[first].dropna().tolist() for arm, runs in done.items()}
    return [written, *save_figure(draw_number(by_arm, first, heading, title), analysis.output)]


def _label(arms: Factor | None, row: pd.Series) -> str:
    return arms.text(arms.level(row)) if arms else "all"


def draw_number(values: Mapping[str, Sequence[float]], name: str, heading: str, title: str) -> Figure:
    """A figure of the mean and interval of every arm, one below the other, and of every run as a cross."""
    figure = new_figure(1.1 + 0.22 * len(values))
    axes = figure.subplots()
    for place, own in enumerate(values.values()):
        interval = mean_interval(own)
        axes.errorbar(
            [interval.mean], [place], xerr=[interval.high - interval.mean], fmt="o", capsize=3, color=PALETTE[0]
        )
        axes.plot(own, [place + 0.2] * len(own), linestyle="none", marker="x", markersize=4, color=PALETTE[1])
    axes.set_yticks(range(len(values)), list(values))
    axes.invert_yaxis()
    axes.set_xlabel(f"{name}; bar: 95 % Student t interval, crosses: runs")
    axes.set_ylabel(heading)
    entitle(figure, title)
    return figure


def main() -> None:
    """Entry point of `python -m nfrepro.plots.default EXP`."""
    parser = script_parser((__doc__ or "").splitlines()[0])
    parser.add_argument("experiment", metavar="EXP", help="name of the experiment, or the path of its .yaml file")
    call = parser.parse_args()
    draw(Path(call.experiment).name.removesuffix(".yaml"), call, analyse)


if __name__ == "__main__":
    main()
