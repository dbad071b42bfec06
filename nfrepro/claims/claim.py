"""Claims as data: what the paper says, and the tests that decide it. `file.py` reads experiments/claims.yaml.

scales: [laptop, gpu, paper]         # where tests apply by default; if missing, at every scale
looks: {overnight: [4, 6, 8]}        # seeds per arm at which a scale is judged; if missing, once, on all seeds
blocks: {H20: [depth]}               # experiments of scale overnight, in the order in which `nfrepro settle` runs them
series:                              # the sources of claims, by the letters of their ids
  C: Characterizing signal propagation (Brock, De, Smith, ICLR 2021)
baseline:                            # the runs that a test selects by default, by experiment
  spp_variants: {model.alpha: 0.2}   # applies to runs that have the option, unless the test says otherwise
controls:                            # conditions without which a test means nothing, judged by their estimates
  bn_trains:
    statement: The network with BatchNorm trains to 60 %.
    testable_if: the networks train for longer
    experiment: depth                # as in a test, but without requires, sd and each
    where: {model.name: bn_resnet}
    quantity: {name: number, column: final_train_top1}
    rule: {low: 60}
claims:
  C10:
    statement: NF-ResNets with Scaled WS propagate signals as ReLU-BN-Conv networks do.
    source: section 4.2, figure 2    # where it is stated
    stated_by: paper                 # who states it
    known_from: others               # how we know it: see KnownFrom
    paper: null                      # the paper's number, as text
    finding: Top-1 of NF minus that of BN, in points   # shown in the report with the number of the decisive test; given
                                                       # for each test if several apply at one scale
    was: {verdict: contradicted, scale: laptop, why: …}   # by the previous rule, and why it was changed
    holds_if: all                    # every test has to hold (the default); any: one of them
    looks: {overnight: [4, 6, 8, 12]}                  # replaces that of the file
    tests:
      - experiment: figure_2
        scales: [paper]                                # scales at which this test applies
        each: [model.depth]                            # one test for each value among the runs
        where: {model.name: nf_resnet}                 # the runs; a list: any of its values; or largest, smallest
        against: {model.name: bn_resnet}               # the runs to compare with
        arms: {nf: {…}, bn: {…}}                       # replaces both if there are more than two
        across: largest                                # which of several runs per seed; if missing, only one is allowed
        quantity: {name: curve_distance, statistic: avg_var}      # see quantities.py
        seeds: independent                             # arms with equal seeds share nothing; default: paired by seed
        diverged: chance                               # how a diverged run counts: see Diverged
        rule: {high: 0.1}                              # low and high are inclusive, above and below exclusive
        requires: [bn_trains]                          # controls
        sd: 0.8                                        # standard deviation over seeds: too small a margin is refused
        note: what a reader has to know
    explained:                       # why, in the words of a person who looked at the runs, scale by scale
      laptop: {verdict: inconclusive, reason: why it came out so, settled_by: what would decide it}
  C39:
    untested: why there is no test                     # instead of tests
  C43:
    fact: what the fact is, and where it is found      # instead of tests
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nfrepro.claims.measured_run import Extreme
from nfrepro.claims.quantities import Contrast, FittedDecay, NumberDifference, OfCollapse, Quantity
from nfrepro.errors import InputError, did_you_mean
from nfrepro.options import Options
from nfrepro.specs.origins import Origin
from nfrepro.stats.intervals import Bounds

Where = Mapping[str, tuple[Any, ...]]  # column of runs.csv -> the values selected

# In this order: the authors' code or an image of their figure; their second paper (arXiv 2102.06171); summaries and
# copies by others; computed from the paper's formulae or from their code; seen nowhere.
KnownFrom = Literal["authors", "second_paper", "others", "computed", "nowhere"]

# left_out: a diverged run gives no value, which is reported; chance: it gets the top-1 of guessing. The estimand is
# chosen before the runs, so that no run changes the question.
Diverged = Literal["left_out", "chance"]

Verdict = Literal["supported", "contradicted", "inconclusive", "not testable", "fact", "not run"]


class Rule(Options):
    """The bounds that a test sets for its quantity."""

    low: float | None = None
    above: float | None = None
    high: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _has_bounds_in_order(self) -> "Rule":
        if not self.model_dump(exclude_none=True):
            raise ValueError("needs low, above, high or below")
        for one, other in (("low", "above"), ("high", "below")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ValueError(f"{one} and {other} are two bounds on one side")
        if self.bounds.low > self.bounds.high:
            raise ValueError(f"low {self.bounds.low:g} is above high {self.bounds.high:g}")
        return self

    @property
    def bounds(self) -> Bounds:
        low = self.above if self.low is None else self.low
        high = self.below if self.high is None else self.high
        return Bounds(
            -math.inf if low is None else low,
            math.inf if high is None else high,
            self.above is None,
            self.below is None,
        )

    def __str__(self) -> str:
        signs = {"low": ">=", "above": ">", "high": "<=", "below": "<"}
        given = self.model_dump(exclude_none=True)
        if set(given) == {"low", "high"}:
            return f"= {self.low:g}" if self.low == self.high else f"in [{self.low:g}, {self.high:g}]"
        return " and ".join(f"{signs[name]} {bound:g}" for name, bound in given.items())


class ClaimTestForm(Options):
    """A test without its selections of runs."""

    experiment: str
    quantity: Quantity
    rule: Rule
    scales: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None
    each: Annotated[tuple[str, ...], Field(strict=False)] = ()
    across: Extreme | None = None
    seeds: Literal["paired", "independent"] = "paired"
    diverged: Diverged | None = None
    requires: Annotated[tuple[str, ...], Field(strict=False)] = ()
    sd: float | None = Field(default=None, gt=0)
    finding: str | None = None  # the meaning of its number, in words
    note: str | None = None

    @model_validator(mode="after")
    def _says_what_a_diverged_run_is(self) -> "ClaimTestForm":
        quantity = self.quantity
        if isinstance(quantity, OfCollapse):
            if self.diverged is not None:
                raise ValueError(f"{quantity.name} counts diverged runs and takes no diverged")
        elif isinstance(quantity, Contrast) and self.diverged is None:
            raise ValueError(f"{quantity.name} needs diverged: chance or left_out")
        elif self.diverged == "chance" and "top1" not in quantity.columns:
            raise ValueError("diverged: chance is for top1: no other number has a value of guessing")
        return self

    @model_validator(mode="after")
    def _has_a_rule_that_can_be_tested(self) -> "ClaimTestForm":
        bounds, name = self.rule.bounds, self.quantity.name
        if name == "collapsed_difference" and not (bounds.count == 1 and 0 in (bounds.low, bounds.high)):
            raise ValueError("shares of two arms are compared with above: 0 or below: 0 only")
        if name == "collapsed" and not all(0 <= end <= 1 for end in bounds.ends):
            raise ValueError("the bounds of a share lie between 0 and 1")
        return self

    @model_validator(mode="after")
    def _takes_several_runs_once(self) -> "ClaimTestForm":
        if isinstance(self.quantity, FittedDecay) and self.across is not None:
            raise ValueError("decay takes all runs of a seed together, and no across")
        return self

    @property
    def divergence(self) -> Diverged:
        """The treatment of diverged runs; by default they count as failures if accuracies are compared."""
        fails = isinstance(self.quantity, NumberDifference) and self.quantity.column == "top1"
        return self.diverged or ("chance" if fails else "left_out")

    @property
    def margin(self) -> float | None:
        """The distance from 0 of the rule's nearest bound other than 0, in a comparison; None if it has no margin."""
        if not isinstance(self.quantity, NumberDifference | Contrast):
            return None
        return min((abs(end) for end in self.rule.bounds.ends if end != 0), default=None)


class ClaimForm(Options):
    """A claim without its tests."""

    statement: Annotated[str, Field(min_length=1)]
    source: str
    stated_by: str
    known_from: KnownFrom
    paper: str | None  # the paper's number or numbers
    finding: str | None = None  # the meaning of its tests' number, in words: shown in the report with the number
    note: str | None = None
    holds_if: Literal["all", "any"] = "all"
    untested: str | None = None  # why it has no tests
    fact: str | None = None  # the fact that takes the place of tests

    @model_validator(mode="after")
    def _has_one_reason_for_no_tests(self) -> "ClaimForm":
        if self.untested is not None and self.fact is not None:
            raise ValueError("untested and fact exclude each other")
        return self


class Was(Options):
    """The verdict on a claim by its previous rule, and why the rule was changed."""

    verdict: Verdict
    scale: str
    why: Annotated[str, Field(min_length=1)]


class ControlForm(Options):
    """The statement of a control, without its test."""

    statement: Annotated[str, Field(min_length=1)]
    testable_if: Annotated[str, Field(min_length=1)]


class Explanation(Options):
    """The reason why a verdict is not `supported`, by a person who looked at the runs; valid for that verdict only."""

    verdict: Literal["contradicted", "inconclusive", "not testable", "not run"]
    reason: Annotated[str, Field(min_length=1)]
    settled_by: str | None = None


@dataclass(frozen=True)
class Selection:
    """The runs that a test selects by `where`, by `against` or as an arm."""

    where: Where
    origin: Origin


@dataclass(frozen=True)
class ClaimTest:
    """A question to be answered by the runs of one experiment."""

    form: ClaimTestForm
    selections: Mapping[str, Selection]  # where and against, or the arms
    baseline: Where
    scales: tuple[str, ...] | None  # None: all
    origin: Origin
    exact: bool = False  # the task is deterministic: its verdict is by value, without chance

    def applies_at(self, scale: str) -> bool:
        return self.scales is None or scale in self.scales

    def shares_a_scale(self, other: "ClaimTest") -> bool:
        """Whether both tests apply at some scale."""
        return self.scales is None or other.scales is None or bool({*self.scales} & {*other.scales})


@dataclass(frozen=True)
class Control:
    """A condition that has to hold at a scale before tests that require it mean anything."""

    name: str
    form: ControlForm
    test: ClaimTest


@dataclass(frozen=True)
class Claim:
    """A statement, the tests that decide it, and the numbers of seeds at which they are judged."""

    id: str
    form: ClaimForm
    tests: tuple[ClaimTest, ...]
    explained: Mapping[str, Explanation]  # by scale
    series: str  # the source of the claim
    was: Was | None = None
    looks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # by scale: seeds per arm
    controls: Mapping[str, Control] = field(default_factory=dict)  # those that its tests require

    def __post_init__(self) -> None:
        if self.form.finding is not None and any(
            one.shares_a_scale(other) for one, other in combinations(self.tests, 2)
        ):
            raise InputError(f"{self.id}: finding: several tests at one scale: give each test its own finding")

    def tests_at(self, scale: str) -> tuple[ClaimTest, ...]:
        """The tests that apply at a scale."""
        return tuple(test for test in self.tests if test.applies_at(scale))

    def controls_at(self, scale: str) -> tuple[Control, ...]:
        """The controls that apply at a scale and are required by its tests there, each once."""
        names = dict.fromkeys(name for test in self.tests_at(scale) for name in test.form.requires)
        return tuple(self.controls[name] for name in names if self.controls[name].test.applies_at(scale))


def select_claims(claims: Sequence[Claim], ids: Sequence[str]) -> list[Claim]:
    """The claims with the given ids, in the order of the file; all if none is given. Raises `InputError` for others."""
    known = [claim.id for claim in claims]
    for name in ids:
        if name not in known:
            raise InputError(f"claim {name}: unknown{hint(name, known)}")
    return [claim for claim in claims if not ids or claim.id in ids]


def hint(word: str, known: Sequence[str]) -> str:
    """The nearest of the known words, or all of them."""
    return did_you_mean(word, known) or f"; there are {', '.join(known)}"
