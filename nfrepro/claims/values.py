"""From the runs of a selection to numbers, one a seed; what a diverged run counts as."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from nfrepro.claims.claim import ClaimTest
from nfrepro.claims.measured_run import EXTREMES, NoValue
from nfrepro.claims.number_quantities import FittedDecay, OfCollapse
from nfrepro.claims.quantities import RunQuantity
from nfrepro.claims.runs import ResultTable
from nfrepro.specs.origins import problem

# Of data sets whose options do not say it.
CLASSES = {"fashion_mnist": 10, "cifar10": 10}

Values = dict[int, float]  # by seed


def run_values(test: ClaimTest, quantity: RunQuantity, table: ResultTable, found: Mapping[str, pd.DataFrame]) -> Values:
    """The quantity for each seed without a diverged run."""
    values, against = {}, found.get("against")
    for seed, rows in found["where"].groupby("seed"):
        others = None if against is None else against[against["seed"] == seed]
        if test.form.across is None:
            refuse_several(test, rows, "where")
        if others is not None:
            refuse_several(test, others, "against")
        if any((of["state"] == "diverged").any() for of in (rows, others) if of is not None):
            continue
        other = None if others is None else table.measured(others.iloc[0])
        several = [quantity.value(table.measured(row), other) for _, row in rows.iterrows()]
        values[int(str(seed))] = float(EXTREMES[test.form.across or "largest"](several))
    return values


def decay_values(test: ClaimTest, quantity: FittedDecay, table: ResultTable, rows: pd.DataFrame) -> Values:
    """The quantity for each seed without a diverged run, from all runs of the seed."""
    for _, same in rows.groupby(quantity.along):
        refuse_several(test, same, "where")
    return {
        int(str(seed)): quantity.value([table.measured(row) for _, row in own.iterrows()])
        for seed, own in rows.groupby("seed")
        if not (own["state"] == "diverged").any()
    }


def numbers(column: str, table: ResultTable, rows: pd.DataFrame) -> Values:
    """A column of runs.csv for each completed run, of which there is one a seed."""
    completed = rows[rows["state"] == "completed"]
    return {seed: table.measured(row).number(column) for seed, row in _one_a_seed(completed)}


def collapses(quantity: OfCollapse, table: ResultTable, rows: pd.DataFrame) -> Values:
    """1 for a run that collapsed, 0 for one that did not."""

    def collapsed(row: "pd.Series[Any]") -> bool:
        if row["state"] == "diverged":
            return True
        return table.measured(row).number("top1") <= quantity.chance_levels * _chance_level(row)

    return {seed: float(collapsed(row)) for seed, row in _one_a_seed(rows)}


def with_chance_level(rows: pd.DataFrame) -> pd.DataFrame:
    """Diverged runs as completed ones with the top-1 of guessing."""
    diverged = rows["state"] == "diverged"
    levels = pd.Series({index: _chance_level(row) for index, row in rows[diverged].iterrows()}, dtype=float)
    return rows.assign(top1=rows["top1"].astype(float).mask(diverged, levels), state="completed")


def refuse_unpaired(found: Mapping[str, pd.DataFrame]) -> None:
    """Raises `NoValue` where arms that belong together seed by seed have not the same seeds."""
    seeds = [set(rows["seed"]) for rows in found.values()]
    for seed in sorted(set.union(*seeds) - set.intersection(*seeds)):
        raise NoValue(f"seed {seed}: no run to compare with")


def refuse_several(test: ClaimTest, rows: pd.DataFrame, name: str) -> None:
    """Raises `InputError` for a selection that means several runs of one seed."""
    seed = next(iter(rows["seed"][rows["seed"].duplicated()]), None)
    if seed is None:
        return
    same = rows[rows["seed"] == seed]
    options = [column for column in map(str, rows) if "." in column and not column.startswith("provenance.")]
    differing = [column for column in options if same[column].nunique(dropna=False) > 1]
    named = f"say which {' and '.join(differing[:3]) or 'one'} is meant"
    hint = f"{named}, or across" if name == "where" else named
    raise problem(test.selections[name].origin, f"{name}: {len(same)} runs of seed {seed}: {hint}")


def _chance_level(row: "pd.Series[Any]") -> float:
    """Top-1 of guessing, in percent. Raises `NoValue` for data of which the config does not say how many classes."""
    classes = CLASSES.get(row["data.name"], row.get("data.classes"))
    if classes is None or pd.isna(classes):
        raise NoValue(f"run {row['id']}: how many classes {row['data.name']} has is not in its config")
    return 100.0 / float(classes)


def _one_a_seed(rows: pd.DataFrame) -> Iterator[tuple[int, "pd.Series[Any]"]]:
    return ((int(row["seed"]), row) for _, row in rows.iterrows())
