"""Claims as data: what the paper says, and the tests that decide it. `file.py` reads experiments/claims.yaml.

scales: [laptop, gpu, paper]         # where tests apply, unless they say otherwise; without it, everywhere
looks: {overnight: [4, 6, 8]}        # seeds an arm at which a scale is judged; without it, once, on all seeds
blocks: {H20: [depth]}               # experiments of scale overnight, in the order in which `nfrepro settle` runs them
series:                              # whose claims they are, by the letters of their ids
  C: Characterizing signal propagation (Brock, De, Smith, ICLR 2021)
baseline:                            # which runs a test means by default, experiment by experiment
  spp_variants: {model.alpha: 0.2}   # holds for runs that have the option, unless the test says otherwise
controls:                            # what has to hold before a test means anything, judged by its estimate
  bn_trains:
    statement: The network with BatchNorm trains to 60 %.
    testable_if: the networks train for longer
    experiment: depth                # a test without requires, sd and each
    where: {model.name: bn_resnet}
    quantity: {name: number, column: final_train_top1}
    rule: {low: 60}
claims:
  C10:
    statement: NF-ResNets with Scaled WS propagate signals as ReLU-BN-Conv networks do.
    source: section 4.2, figure 2    # where it is said
    stated_by: paper                 # who says it
    known_from: others               # where we have it from: see KnownFrom
    paper: null                      # the paper's number, as text
    finding: Top-1 of NF minus that of BN, in points   # heads the report, with the number of the decisive test; at the
                                                       # test itself, where tests ask for different quantities
    was: {verdict: contradicted, scale: laptop, why: …}   # by the rule before this one, and why it was changed
    holds_if: all                    # every test has to hold (the default), or any of them
    looks: {overnight: [4, 6, 8, 12]}                  # instead of those of the file
    tests:
      - experiment: figure_2
        scales: [paper]                                # where this test applies
        each: [model.depth]                            # a test for each value that the runs have
        where: {model.name: nf_resnet}                 # the runs; of a list any value; largest or smallest: that one
        against: {model.name: bn_resnet}               # the runs to compare with
        arms: {nf: {…}, bn: {…}}                       # instead of both, where there are more than two
        across: largest                                # of several runs a seed; without it there may be one
        quantity: {name: curve_distance, statistic: avg_var}      # see quantities.py
        seeds: independent                             # arms of a seed share nothing; else they are paired by seed
        diverged: chance                               # what a diverged run is: see Diverged
        rule: {high: 0.1}                              # low and high are allowed themselves, above and below are not
        requires: [bn_trains]                          # controls
        sd: 0.8                                        # of a value over seeds: too small a margin is refused
        note: what a reader has to know
    explained:                       # what somebody who looked at the runs thinks of the verdict, scale by scale
      laptop: {verdict: inconclusive, reason: why it came out so, settled_by: what would decide it}
  C39:
    untested: why there is no test                     # instead of tests
  C43:
    fact: what it is a fact of, and where              # instead of tests
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nfrepro.claims.measured_run import Extreme
from nfrepro.claims.quantities import Contrast, FittedDecay, NumberDifference, OfCollapse, Quantity
from nfrepro.errors import InputError, did_you_mean
from nfrepro.options import Options
from nfrepro.specs.origins import Origin
from nfrepro.stats.intervals import Bounds

Where = Mapping[str, tuple[Any, ...]]  # column of runs.csv -> the values that are meant

# The authors' code or an image of their figure; their second paper (arXiv 2102.06171); summaries and copies by others;
# computed from the paper's formulae or from their code; nowhere seen.
KnownFrom = Literal["authors", "second_paper", "others", "computed", "nowhere"]

# left_out: it gives no value, which is said; chance: its top-1 is that of guessing. The estimand is chosen before the
# runs, so that no run changes the question.
Diverged = Literal["left_out", "chance"]

Verdict = Literal["supported", "contradicted", "inconclusive", "not testable", "fact", "not run"]


class Rule(Options):
    """The quantities that a test can ask for."""

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
    finding: str | None = None  # what its number is, in words
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
        """The treatment of diverged runs; by default a failure where accuracies are compared."""
        fails = isinstance(self.quantity, NumberDifference) and self.quantity.column == "top1"
        return self.diverged or ("chance" if fails else "left_out")

    @property
    def asked(self) -> tuple[str, str | None]:
        """The quantity, and the number of a run that it is about."""
        return self.quantity.name, getattr(self.quantity, "column", None)

    @property
    def margin(self) -> float | None:
        """The distance of the rule from 0 in a comparison; None where the rule has no margin."""
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
    finding: str | None = None  # what the number of any of its tests is, in words: heads the report, with the number
    note: str | None = None
    holds_if: Literal["all", "any"] = "all"
    untested: str | None = None  # why it has no tests
    fact: str | None = None  # what it is a fact of: it has no tests either

    @model_validator(mode="after")
    def _has_one_reason_for_no_tests(self) -> "ClaimForm":
        if self.untested is not None and self.fact is not None:
            raise ValueError("untested and fact exclude each other")
        return self


class Was(Options):
    """The verdict by the rule that a claim had before, and why the rule was changed."""

    verdict: Verdict
    scale: str
    why: Annotated[str, Field(min_length=1)]


class ControlForm(Options):
    """The statement of a control, without its test."""

    statement: Annotated[str, Field(min_length=1)]
    testable_if: Annotated[str, Field(min_length=1)]


class Explanation(Options):
    """Why a verdict is not `supported`, by a person who looked at the runs. It holds for that verdict only."""

    verdict: Literal["contradicted", "inconclusive", "not testable", "not run"]
    reason: Annotated[str, Field(min_length=1)]
    settled_by: str | None = None


@dataclass(frozen=True)
class Selection:
    """The runs that a test means by `where`, by `against` or as an arm."""

    where: Where
    origin: Origin


@dataclass(frozen=True)
class ClaimTest:
    """One question to the runs of one experiment."""

    form: ClaimTestForm
    selections: Mapping[str, Selection]  # where and against, or the arms
    baseline: Where
    scales: tuple[str, ...] | None  # None: all
    origin: Origin
    exact: bool = False  # of a deterministic task: its verdict is by value, and chance has no part in it

    def applies_at(self, scale: str) -> bool:
        return self.scales is None or scale in self.scales


@dataclass(frozen=True)
class Control:
    """A condition that has to hold at a scale before tests that require it mean anything."""

    name: str
    form: ControlForm
    test: ClaimTest


@dataclass(frozen=True)
class Claim:
    """A statement, the tests that decide it, and the seeds at which they are asked."""

    id: str
    form: ClaimForm
    tests: tuple[ClaimTest, ...]
    explained: Mapping[str, Explanation]  # by scale
    series: str  # whose claim it is
    was: Was | None = None
    looks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # by scale: seeds an arm
    controls: Mapping[str, Control] = field(default_factory=dict)  # those that its tests require

    def __post_init__(self) -> None:
        if self.form.finding is not None and len({test.form.asked for test in self.tests}) > 1:
            raise InputError(
                f"{self.id}: finding: its tests ask for different quantities: say at each test what its number is"
            )

    def tests_at(self, scale: str) -> tuple[ClaimTest, ...]:
        """Those that apply at a scale."""
        return tuple(test for test in self.tests if test.applies_at(scale))

    def controls_at(self, scale: str) -> tuple[Control, ...]:
        """Those that its tests of a scale require, as far as they apply there, each once."""
        names = dict.fromkeys(name for test in self.tests_at(scale) for name in test.form.requires)
        return tuple(self.controls[name] for name in names if self.controls[name].test.applies_at(scale))


def select_claims(claims: Sequence[Claim], ids: Sequence[str]) -> list[Claim]:
    """Those of the given ids, in the order of the file; all where none is given. Raises `InputError` for others."""
    known = [claim.id for claim in claims]
    for name in ids:
        if name not in known:
            raise InputError(f"claim {name}: unknown{hint(name, known)}")
    return [claim for claim in claims if not ids or claim.id in ids]


def hint(word: str, known: Sequence[str]) -> str:
    """The nearest of what is known, or all of it."""
    return did_you_mean(word, known) or f"; there are {', '.join(known)}"
