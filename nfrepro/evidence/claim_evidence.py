"""From the runs of a test to the sample that its verdict rests on."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nfrepro.errors import did_you_mean
from nfrepro.evidence.bounds import Bounds
from nfrepro.evidence.claim_quantities import RunQuantity
from nfrepro.evidence.claim_runs import ResultTable, refuse_mixed, select
from nfrepro.evidence.claims import ClaimTest, Where
from nfrepro.evidence.measured_run import EXTREMES, NoValue
from nfrepro.evidence.number_quantities import BestDifference, Contrast, NumberDifference, OfCollapse
from nfrepro.evidence.samples import MeanSample, Missing, Sample, Term, best, paired
from nfrepro.evidence.shares import Count, ShareDifference, ShareSample
from nfrepro.evidence.statistics import Interval, mean_interval
from nfrepro.evidence.store import DONE
from nfrepro.specs.origins import problem

LEAST_SEEDS = 2
# Of data sets whose options do not say it.
CLASSES = {"fashion_mnist": 10, "cifar10": 10}

Values = dict[int, float]  # by seed


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
    """What a test has to go by, the runs it comes from, and what was done with diverged ones."""

    sample: Sample | Missing
    arms: tuple[ArmRuns, ...] = ()
    remark: str = ""

    @property
    def states(self) -> dict[str, int]:
        """How many of all its runs are in which state."""
        return dict(sum((Counter(arm.states) for arm in self.arms), Counter()))


def gather(test: ClaimTest, table: ResultTable) -> Evidence:
    """The sample of the test's quantity. Raises `InputError` for selections and columns that make no sense."""
    if table.rows is None:
        return Evidence(Missing(f"no table {table.path}"))
    found = {name: select(table.rows, of.where, test.baseline) for name, of in test.selections.items()}
    arms = tuple(_arm(name, test, rows, {}) for name, rows in found.items())
    if any(rows.empty for rows in found.values()):
        return Evidence(Missing("the table has no such runs"), arms)
    unfinished = Counter(state for rows in found.values() for state in rows["state"] if state not in DONE)
    if unfinished:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(unfinished.items()))
        return Evidence(Missing(f"of {sum(map(len, found.values()))} runs: {counts}"), arms)
    refuse_mixed(test, pd.concat(list(found.values())))
    _check_columns(test, table.rows.columns, table.path)
    try:
        return _gathered(test, table, found)
    except NoValue as error:
        return Evidence(Missing(str(error)), arms)


def _gathered(test: ClaimTest, table: ResultTable, found: Mapping[str, pd.DataFrame]) -> Evidence:
    quantity, bounds = test.form.quantity, test.form.rule.bounds
    if isinstance(quantity, OfCollapse):
        return _collapses(test, quantity, found)
    diverged = {name: int((rows["state"] == "diverged").sum()) for name, rows in found.items()}
    if any(diverged.values()) and test.form.divergence == "counts":
        return _decided_on_counts(test, found, diverged)
    if test.form.seeds == "paired":
        _refuse_unpaired(found)
    treated = {name: _with_chance_level(rows) for name, rows in found.items()} if _chance(test) else found
    if isinstance(quantity, NumberDifference | Contrast):
        values = {name: _numbers(test, table, rows, name) for name, rows in treated.items()}
        terms = [(quantity.weights[name], of) for name, of in values.items()]
        sample = _contrast(terms, bounds, test.form.seeds == "paired")
        arms = tuple(_arm(name, test, found[name], of) for name, of in values.items())
    elif isinstance(quantity, BestDifference):
        these, those = (_by_option(test, quantity.by, table, treated[name], name) for name in ("where", "against"))
        sample = _best(list(these.values()), list(those.values()), bounds, test.form.seeds == "paired")
        rows = pd.concat(list(found.values()))
        arms = tuple(
            ArmRuns(f"{value}", {quantity.by: (value,)}, dict(Counter(rows["state"][rows[quantity.by] == value])), of)
            for value, of in (these | those).items()
        )
    else:
        of = _run_values(test, quantity, table, treated)
        sample = _mean(list(of.values()), bounds)
        arms = tuple(_arm(name, test, rows, of if name == "where" else {}) for name, rows in found.items())
    return Evidence(sample, arms, _remark(test, sum(diverged.values())))


def _arm(name: str, test: ClaimTest, rows: pd.DataFrame, values: Values) -> ArmRuns:
    return ArmRuns(name, test.selections[name].where, dict(Counter(rows["state"])), values)


# Diverged runs


def _chance(test: ClaimTest) -> bool:
    return test.form.divergence == "chance"


def _with_chance_level(rows: pd.DataFrame) -> pd.DataFrame:
    """Diverged runs as completed ones with the top-1 of guessing."""
    diverged = rows["state"] == "diverged"
    levels = pd.Series({index: _chance_level(row) for index, row in rows[diverged].iterrows()}, dtype=float)
    return rows.assign(top1=rows["top1"].astype(float).mask(diverged, levels), state="completed")


def _chance_level(row: "pd.Series[Any]") -> float:
    """Top-1 of guessing, in percent. Raises `NoValue` for a run that does not say how many classes it had."""
    classes = CLASSES.get(row["data.name"], row.get("data.classes"))
    if classes is None or pd.isna(classes):
        raise NoValue(f"run {row['id']}: how many classes {row['data.name']} has is not in its config")
    return 100.0 / float(classes)


def _decided_on_counts(test: ClaimTest, found: Mapping[str, pd.DataFrame], diverged: Mapping[str, int]) -> Evidence:
    """Means of the runs that are left would compare survivors: the arm with fewer diverged runs is the better one."""
    count, other = (Count(diverged[name], len(found[name])) for name in ("where", "against"))
    bounds = test.form.rule.bounds
    # A difference that has to be high speaks for `where`, so that divergence of `against` supports it.
    if bounds.count == 2:
        rule = Bounds(0.0, 0.0)
    else:
        rule = Bounds(high=0.0, high_included=False) if bounds.high == float("inf") else Bounds(0.0, low_included=False)
    remark = f"decided on the counts of diverged runs, {count} against {other}: shares, not {test.form.quantity}"
    arms = tuple(_arm(name, test, rows, {}) for name, rows in found.items())
    return Evidence(ShareDifference(rule, count, other), arms, remark)


def _remark(test: ClaimTest, diverged: int) -> str:
    if diverged == 0:
        return ""
    return f"{diverged} diverged, {'counted with the top-1 of guessing' if _chance(test) else 'not counted in n'}"


# Samples


def _collapses(test: ClaimTest, quantity: OfCollapse, found: Mapping[str, pd.DataFrame]) -> Evidence:
    bounds = test.form.rule.bounds
    for name, rows in found.items():
        _refuse_several(test, rows, name)
    values = {name: _collapsed(quantity, rows) for name, rows in found.items()}
    counts = [Count(int(sum(of.values())), len(of)) for of in values.values()]
    sample: Sample = ShareSample(bounds, counts[0])
    if len(counts) == 2:
        sample = ShareDifference(bounds, counts[0], counts[1])
    remark = f"{' against '.join(map(str, counts))} runs"
    return Evidence(sample, tuple(_arm(name, test, found[name], of) for name, of in values.items()), remark)


def _collapsed(quantity: OfCollapse, rows: pd.DataFrame) -> Values:
    """1 for a run that collapsed, 0 for one that did not."""
    values = {}
    for seed, row in _one_a_seed(rows):
        failed = row["state"] == "diverged"
        values[seed] = float(failed or row["top1"] <= quantity.chance_levels * _chance_level(row))
    return values


def _numbers(test: ClaimTest, table: ResultTable, rows: pd.DataFrame, name: str) -> Values:
    """The column of the quantity; a diverged run that has no value is left out."""
    column = test.form.quantity.columns[0]
    _refuse_several(test, rows, name)
    completed = rows[rows["state"] == "completed"]
    return {seed: table.measured(row).number(column) for seed, row in _one_a_seed(completed)}


def _by_option(test: ClaimTest, by: str, table: ResultTable, rows: pd.DataFrame, name: str) -> dict[Any, Values]:
    """The numbers of each arm, by its value of the option."""
    return {value: _numbers(test, table, group, name) for value, group in rows.groupby(by)}


def _contrast(terms: list[tuple[float, Values]], bounds: Bounds, by_seed: bool) -> Sample | Missing:
    arms, weights = [values for _, values in terms], [weight for weight, _ in terms]
    if by_seed:
        seeds = _common_seeds(arms)
        if len(seeds) < LEAST_SEEDS:
            return _too_few(len(seeds))
        return paired([[values[seed] for seed in seeds] for values in arms], weights, bounds)
    if min(map(len, arms)) < LEAST_SEEDS:
        return _too_few(min(map(len, arms)))
    return MeanSample(bounds, tuple(Term(weight, tuple(values.values())) for weight, values in terms))


def _best(arms: list[Values], others: list[Values], bounds: Bounds, by_seed: bool) -> Sample | Missing:
    if by_seed:
        seeds = _common_seeds([*arms, *others])
        arms, others = ([{seed: values[seed] for seed in seeds} for values in group] for group in (arms, others))
    if (fewest := min(map(len, [*arms, *others]))) < LEAST_SEEDS:
        return _too_few(fewest)
    return best([list(of.values()) for of in arms], [list(of.values()) for of in others], bounds, by_seed)


def _mean(values: list[float], bounds: Bounds) -> Sample | Missing:
    return MeanSample.of(values, bounds) if len(values) >= LEAST_SEEDS else _too_few(len(values))


def _too_few(seeds: int) -> Missing:
    return Missing(f"{seeds} completed seed{'' if seeds == 1 else 's'}: an interval needs {LEAST_SEEDS}")


def _common_seeds(arms: list[Values]) -> list[int]:
    return sorted(set.intersection(*(set(values) for values in arms)))


# Values of runs


def _run_values(
    test: ClaimTest, quantity: RunQuantity, table: ResultTable, found: Mapping[str, pd.DataFrame]
) -> Values:
    """A value for each seed without a diverged run."""
    values, against = {}, found.get("against")
    for seed, rows in found["where"].groupby("seed"):
        others = None if against is None else against[against["seed"] == seed]
        if test.form.across is None:
            _refuse_several(test, rows, "where")
        if others is not None:
            _refuse_several(test, others, "against")
        if any((of["state"] == "diverged").any() for of in (rows, others) if of is not None):
            continue
        other = None if others is None else table.measured(others.iloc[0])
        several = [quantity.value(table.measured(row), other) for _, row in rows.iterrows()]
        values[int(str(seed))] = float(EXTREMES[test.form.across or "largest"](several))
    return values


def _refuse_unpaired(found: Mapping[str, pd.DataFrame]) -> None:
    seeds = [set(rows["seed"]) for rows in found.values()]
    for seed in sorted(set.union(*seeds) - set.intersection(*seeds)):
        raise NoValue(f"seed {seed}: no run to compare with")


def _one_a_seed(rows: pd.DataFrame) -> Iterable[tuple[int, "pd.Series[Any]"]]:
    return ((int(row["seed"]), row) for _, row in rows.iterrows())


def _refuse_several(test: ClaimTest, rows: pd.DataFrame, name: str) -> None:
    seed = next(iter(rows["seed"][rows["seed"].duplicated()]), None)
    if seed is None:
        return
    same = rows[rows["seed"] == seed]
    options = [column for column in map(str, rows) if "." in column and not column.startswith("provenance.")]
    differing = [column for column in options if same[column].nunique(dropna=False) > 1]
    named = f"say which {' and '.join(differing[:3]) or 'one'} is meant"
    hint = f"{named}, or across" if name == "where" else named
    raise problem(test.selections[name].origin, f"{name}: {len(same)} runs of seed {seed}: {hint}")


def _check_columns(test: ClaimTest, columns: Iterable[str], path: Path) -> None:
    quantity = test.form.quantity
    for column in quantity.columns:
        if column not in columns:
            hint = did_you_mean(column, columns)
            raise problem(test.origin, f"quantity: {quantity.name}: no column {column} in {path}{hint}")
