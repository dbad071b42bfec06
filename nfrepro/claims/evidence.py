"""Turns the runs of a test into numbers, one per seed, and into the sample on which its verdict rests."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nfrepro.claims.claim import ClaimTest, Where
from nfrepro.claims.measured_run import EXTREMES, NoValue
from nfrepro.claims.quantities import (
    Contrast,
    FittedDecay,
    NumberDifference,
    OfCollapse,
    RunQuantity,
    ShareOfNetworks,
)
from nfrepro.claims.runs import ResultTable, refuse_mixed, select
from nfrepro.errors import did_you_mean
from nfrepro.runs.store import DONE
from nfrepro.specs.origins import problem
from nfrepro.stats.intervals import Interval, mean_interval
from nfrepro.stats.proportions import Count, ShareDifference, ShareSample
from nfrepro.stats.samples import MeanSample, Missing, Sample, Term, paired

LEAST_SEEDS = 2
# Numbers of classes of the data sets whose options do not give it.
CLASSES = {"fashion_mnist": 10, "cifar10": 10}

Values = dict[int, float]  # by seed
Found = Mapping[str, pd.DataFrame]  # the runs of each selection

_DIVERGED_RUNS = {"chance": "counted with the top-1 of guessing", "left_out": "not counted in n"}


@dataclass(frozen=True)
class ArmRuns:
    """The runs of one selection: how many are in each state, and the numbers that they gave, by seed."""

    name: str
    where: Where
    states: Mapping[str, int]
    values: Values

    @property
    def interval(self) -> Interval:
        return mean_interval(list(self.values.values()))


@dataclass(frozen=True)
class Evidence:
    """The evidence for a test: its sample, the runs it comes from, and the treatment of diverged ones."""

    sample: Sample | Missing
    arms: tuple[ArmRuns, ...] = ()
    remark: str = ""

    @property
    def states(self) -> dict[str, int]:
        """The number of runs in each state, over all arms."""
        return dict(sum((Counter(arm.states) for arm in self.arms), Counter()))

    @property
    def pending(self) -> bool:
        """Whether runs that the test needs are still missing."""
        return not self.arms or any(not arm.states or set(arm.states) - set(DONE) for arm in self.arms)


def gather(test: ClaimTest, table: ResultTable, seeds: int | None = None) -> Evidence:
    """The sample of the test's quantity from the first `seeds` seeds of each arm in order, however their runs ended.

    None: all seeds; an arm that has fewer enters whole. Raises `InputError` for selections and columns that make no
    sense.
    """
    if table.rows is None:
        return Evidence(Missing(f"no table {'/'.join(table.path.parts[-3:])}"))
    found = {
        name: first_seeds(select(table.rows, of.where, test.baseline), seeds) for name, of in test.selections.items()
    }
    if any(rows.empty for rows in found.values()):
        return _missing("the table has no such runs", test, found)
    unfinished = Counter(state for rows in found.values() for state in rows["state"] if state not in DONE)
    if unfinished:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(unfinished.items()))
        return _missing(f"of {sum(map(len, found.values()))} runs: {counts}", test, found)
    refuse_mixed(test, pd.concat(list(found.values())))
    _check_columns(test, table.rows.columns, table.path)
    try:
        return _gathered(test, table, found)
    except NoValue as error:
        return _missing(str(error), test, found)


def first_seeds(rows: pd.DataFrame, seeds: int | None) -> pd.DataFrame:
    """The rows of the first `seeds` seeds in order; None: all."""
    if seeds is None:
        return rows
    chosen: pd.DataFrame = rows[rows["seed"].isin(sorted(set(rows["seed"]))[:seeds])]
    return chosen


def _gathered(test: ClaimTest, table: ResultTable, found: Found) -> Evidence:
    quantity, divergence = test.form.quantity, test.form.divergence
    if isinstance(quantity, OfCollapse):
        return _of_collapses(test, quantity, table, found)
    diverged = sum(int((rows["state"] == "diverged").sum()) for rows in found.values())
    remark = f"{diverged} diverged, {_DIVERGED_RUNS[divergence]}" if diverged else ""
    if test.form.seeds == "paired":
        refuse_unpaired(found)
    treated = {name: with_chance_level(rows) for name, rows in found.items()} if divergence == "chance" else found
    if isinstance(quantity, NumberDifference | Contrast):
        values = {name: _one_number_a_seed(test, table, rows, name) for name, rows in treated.items()}
        treated_as_guessing = bool(diverged) and divergence == "chance"
        sample = _sum([quantity.weights[name] for name in values], list(values.values()), test, treated_as_guessing)
        return Evidence(sample, _arms(test, found, values), remark)
    if isinstance(quantity, FittedDecay):
        of = decay_values(test, quantity, table, treated["where"])
    else:
        of = run_values(test, quantity, table, treated)
    return Evidence(_of_one_arm(test, of), _arms(test, found, {"where": of}), remark)


def _of_one_arm(test: ClaimTest, values: Values) -> Sample | Missing:
    """The sample of one value per seed: a mean or, if each value is 1 or 0, a share."""
    bounds = test.form.rule.bounds
    if len(values) < LEAST_SEEDS:
        return _too_few(len(values))
    if isinstance(test.form.quantity, ShareOfNetworks):
        return ShareSample(bounds, Count(int(sum(values.values())), len(values)))
    return MeanSample.of(list(values.values()), bounds, exact=test.exact)


def _of_collapses(test: ClaimTest, quantity: OfCollapse, table: ResultTable, found: Found) -> Evidence:
    """The share of runs that collapsed, or the difference of two such shares."""
    for name, rows in found.items():
        refuse_several(test, rows, name)
    values = {name: collapses(quantity, table, rows) for name, rows in found.items()}
    first, *others = [Count(int(sum(of.values())), len(of)) for of in values.values()]
    bounds = test.form.rule.bounds
    sample = ShareDifference(bounds, first, others[0]) if others else ShareSample(bounds, first)
    return Evidence(sample, _arms(test, found, values), f"{' against '.join(map(str, [first, *others]))} runs")


def _sum(weights: list[float], arms: list[Values], test: ClaimTest, has_diverged: bool) -> Sample | Missing:
    """The weighted sum of the arms, seed by seed or over their means.

    Diverged runs have nothing in common with others of their seed: with them, paired arms count as independent.
    """
    values, bounds = _common(arms, test), test.form.rule.bounds
    if (fewest := min(map(len, values))) < LEAST_SEEDS:
        return _too_few(fewest)
    if test.form.seeds == "paired" and not has_diverged:
        return paired(values, weights, bounds, exact=test.exact)
    terms = tuple(Term(weight, tuple(of)) for weight, of in zip(weights, values, strict=True))
    return MeanSample(bounds, terms, test.exact, has_diverged)


def _common(arms: list[Values], test: ClaimTest) -> list[list[float]]:
    """The values of each arm; if arms are paired, those of their common seeds, in the same order."""
    if test.form.seeds == "independent":
        return [list(values.values()) for values in arms]
    seeds = sorted(set.intersection(*map(set, arms)))
    return [[values[seed] for seed in seeds] for values in arms]


def _one_number_a_seed(test: ClaimTest, table: ResultTable, rows: pd.DataFrame, name: str) -> Values:
    refuse_several(test, rows, name)
    return numbers(test.form.quantity.columns[0], table, rows)


def _arms(test: ClaimTest, found: Found, values: Mapping[str, Values]) -> tuple[ArmRuns, ...]:
    return tuple(
        ArmRuns(name, test.selections[name].where, dict(Counter(rows["state"])), values.get(name, {}))
        for name, rows in found.items()
    )


def _missing(reason: str, test: ClaimTest, found: Found) -> Evidence:
    return Evidence(Missing(reason), _arms(test, found, {}))


def _too_few(seeds: int) -> Missing:
    return Missing(f"{seeds} completed seed{'' if seeds == 1 else 's'}: an interval needs {LEAST_SEEDS}")


def _check_columns(test: ClaimTest, columns: Iterable[str], path: Path) -> None:
    quantity = test.form.quantity
    for column in quantity.columns:
        if column not in columns:
            hint = did_you_mean(column, columns)
            raise problem(test.origin, f"quantity: {quantity.name}: no column {column} in {path}{hint}")


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
    """A column of runs.csv for each completed run, of which each seed has at most one."""
    completed = rows[rows["state"] == "completed"]
    return {seed: table.measured(row).number(column) for seed, row in _one_a_seed(completed)}


def collapses(quantity: OfCollapse, table: ResultTable, rows: pd.DataFrame) -> Values:
    """1 for a run that collapsed, 0 for one that did not."""

    def collapsed(row: "pd.Series[Any]") -> bool:
        if row["state"] == "diverged":
            return True
        return table.measured(row).number("top1") <= quantity.chance_levels * chance_level(row)

    return {seed: float(collapsed(row)) for seed, row in _one_a_seed(rows)}


def chance_level(row: "pd.Series[Any]") -> float:
    """Top-1 of guessing, in percent. Raises `NoValue` if the config does not give the number of classes."""
    classes = CLASSES.get(row["data.name"], row.get("data.classes"))
    if classes is None or pd.isna(classes):
        raise NoValue(f"run {row['id']}: how many classes {row['data.name']} has is not in its config")
    return 100.0 / float(classes)


def with_chance_level(rows: pd.DataFrame) -> pd.DataFrame:
    """The runs, with diverged ones replaced by completed ones with the top-1 of guessing."""
    diverged = rows["state"] == "diverged"
    levels = pd.Series({index: chance_level(row) for index, row in rows[diverged].iterrows()}, dtype=float)
    return rows.assign(top1=rows["top1"].astype(float).mask(diverged, levels), state="completed")


def refuse_unpaired(found: Mapping[str, pd.DataFrame]) -> None:
    """Raises `NoValue` if arms that are paired by seed do not have the same seeds."""
    seeds = [set(rows["seed"]) for rows in found.values()]
    for seed in sorted(set.union(*seeds) - set.intersection(*seeds)):
        raise NoValue(f"seed {seed}: no run to compare with")


def refuse_several(test: ClaimTest, rows: pd.DataFrame, name: str) -> None:
    """Raises `InputError` for a selection that has several runs of one seed."""
    seed = next(iter(rows["seed"][rows["seed"].duplicated()]), None)
    if seed is None:
        return
    same = rows[rows["seed"] == seed]
    options = [column for column in map(str, rows) if "." in column and not column.startswith("provenance.")]
    differing = [column for column in options if same[column].nunique(dropna=False) > 1]
    named = f"say which {' and '.join(differing[:3]) or 'one'} is meant"
    hint = f"{named}, or across" if name == "where" else named
    raise problem(test.selections[name].origin, f"{name}: {len(same)} runs of seed {seed}: {hint}")


def _one_a_seed(rows: pd.DataFrame) -> Iterator[tuple[int, "pd.Series[Any]"]]:
    return ((int(row["seed"]), row) for _, row in rows.iterrows())
