"""The table of a comparison: a row per arm, none dropped, with the papers' numbers next to ours."""

from collections.abc import Sequence

import pandas as pd

from nfrepro.plots.comparison import Arm, Comparison
from nfrepro.plots.paper_values import Reference
from nfrepro.stats.intervals import mean_interval


def table_rows(comparison: Comparison, arms: Sequence[Arm]) -> list[dict[str, str]]:
    """Levels, mean ± half width of the interval, counts, and a column for each reference, blank if unknown."""
    return [
        {factor.name: factor.text(level) for factor, level in zip(comparison.factors, arm.key, strict=True)}
        | {
            "test top-1 (%)": str(arm.top1),
            "n": str(arm.top1.n),
            "diverged": str(arm.counts.diverged),
        }
        | arm.counts.without_result()
        | {reference.heading: str(reference.values.get(arm.key, "")) for reference in comparison.references}
        for arm in arms
    ]


def table_note(comparison: Comparison, arms: Sequence[Arm], setting: str) -> str:
    """The note below a table: what was measured, by which method, and the sources of the papers' numbers."""
    known = [_about(comparison, arms, reference) for reference in comparison.references]
    ours = f"Ours: {setting}. Mean ± half width of the {arms[0].top1.method}; last epoch; n counts completed runs."
    return "\n\n".join([f"{ours} {comparison.remark}".strip(), *(known or [comparison.without_references])])


def over_runs(completed: pd.DataFrame, column: str, digits: int) -> str:
    """The interval of a number of runs.csv over the runs that have it, and a count of the others."""
    values = completed[column].dropna().tolist()
    missing = len(completed) - len(values)
    return mean_interval(values).text(digits) + (f" ({missing} not finite)" if missing else "")


def counts(arms: Sequence[Arm]) -> str:
    """The number of runs as text: `n = 3`, or `n = 1 to 3` if arms with a result differ."""
    found = [arm.top1.n for arm in arms if arm.values] or [0]
    return f"n = {min(found)}" + (f" to {max(found)}" if max(found) > min(found) else "")


def _about(comparison: Comparison, arms: Sequence[Arm], reference: Reference) -> str:
    """The source of a paper's column, and its numbers for arms that we do not have."""
    ours = {arm.key for arm in arms}
    others = [
        ", ".join(factor.text(level) for factor, level in zip(comparison.factors, key, strict=True)) + f": {value}"
        for key, value in reference.values.items()
        if key not in ours
    ]
    text = f'Column "{reference.heading}": {reference.source}.'
    if not others:
        return text
    return f"{text} " + (
        "More of its numbers are in the figure."
        if reference.panel
        else f"For arms that are not here: {'; '.join(others)}."
    )
