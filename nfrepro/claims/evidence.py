"""From the runs of a test to the sample that its verdict rests on."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nfrepro.claims.claim import ClaimTest, Where
from nfrepro.claims.measured_run import NoValue
from nfrepro.claims.number_quantities import Contrast, FittedDecay, NumberDifference, OfCollapse
from nfrepro.claims.quantities import ShareOfNetworks
from nfrepro.claims.runs import ResultTable, refuse_mixed, select
from nfrepro.claims.values import (
    Values,
    collapses,
    decay_values,
    numbers,
    refuse_several,
    refuse_unpaired,
    run_values,
    with_chance_level,
)
from nfrepro.errors import did_you_mean
from nfrepro.runs.store import DONE
from nfrepro.specs.origins import problem
from nfrepro.stats.intervals import Interval, mean_interval
from nfrepro.stats.proportions import Count, ShareDifference, ShareSample
from nfrepro.stats.samples import MeanSample, Missing, Sample, Term, paired

LEAST_SEEDS = 2

Found = Mapping[str, pd.DataFrame]  # the runs of each selection

_DIVERGED_RUNS = {"chance": "counted with the top-1 of guessing", "left_out": "not counted in n"}


@dataclass(frozen=True)
class ArmRuns:
    """The runs of one selection: how many are in which state, and what those with a number gave, by seed."""

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
        """How many of all its runs are in which state."""
        return dict(sum((Counter(arm.states) for arm in self.arms), Counter()))

    @property
    def pending(self) -> bool:
        """Whether runs have still to be done before the test can be asked."""
        return not self.arms or any(not arm.states or set(arm.states) - set(DONE) for arm in self.arms)


def gather(test: ClaimTest, table: ResultTable, seeds: int | None = None) -> Evidence:
    """The sample of the test's quantity from the first `seeds` seeds of each arm in order, whatever became of them.

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
    """One value a seed: a mean or, where each is 1 or 0, a share."""
    bounds = test.form.rule.bounds
    if len(values) < LEAST_SEEDS:
        return _too_few(len(values))
    if isinstance(test.form.quantity, ShareOfNetworks):
        return ShareSample(bounds, Count(int(sum(values.values())), len(values)))
    return MeanSample.of(list(values.values()), bounds, exact=test.exact)


def _of_collapses(test: ClaimTest, quantity: OfCollapse, table: ResultTable, found: Found) -> Evidence:
    """The share of runs that collapsed, or the difference of two."""
    for name, rows in found.items():
        refuse_several(test, rows, name)
    values = {name: collapses(quantity, table, rows) for name, rows in found.items()}
    first, *others = [Count(int(sum(of.values())), len(of)) for of in values.values()]
    bounds = test.form.rule.bounds
    sample = ShareDifference(bounds, first, others[0]) if others else ShareSample(bounds, first)
    return Evidence(sample, _arms(test, found, values), f"{' against '.join(map(str, [first, *others]))} runs")


def _sum(weights: list[float], arms: list[Values], test: ClaimTest, has_diverged: bool) -> Sample | Missing:
    """The weighted sum of the arms, seed by seed or of their means.

    Runs that diverged have nothing in common with others of their seed: with them, pairs count as independent arms.
    """
    values, bounds = _common(arms, test), test.form.rule.bounds
    if (fewest := min(map(len, values))) < LEAST_SEEDS:
        return _too_few(fewest)
    if test.form.seeds == "paired" and not has_diverged:
        return paired(values, weights, bounds, exact=test.exact)
    terms = tuple(Term(weight, tuple(of)) for weight, of in zip(weights, values, strict=True))
    return MeanSample(bounds, terms, test.exact, has_diverged)


def _common(arms: list[Values], test: ClaimTest) -> list[list[float]]:
    """The values of each arm; of paired ones those of seeds that all have, in the same order."""
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
