"""Claims as data: what the paper says, and the tests that decide it. `claims_file.py` reads experiments/claims.yaml.

scales: [laptop, gpu, paper]         # where tests apply, unless they say otherwise; without it, everywhere
series:                              # whose claims they are, by the letters of their ids
  C: Characterizing signal propagation (Brock, De, Smith, ICLR 2021)
baseline:                            # which runs a test means by default, experiment by experiment
  spp_variants: {model.alpha: 0.2}   # holds for runs that have the option, unless the test says otherwise
claims:
  C10:
    statement: NF-ResNets with Scaled WS propagate signals as ReLU-BN-Conv networks do.
    source: section 4.2, figure 2    # where it is said
    stated_by: paper                 # who says it
    known_from: others               # where we have it from: see KnownFrom
    paper: null                      # the paper's number, as text
    tests:
      - experiment: figure_2
        scales: [paper]                                # where this test applies
        each: [model.depth]                            # a test for each value that the runs have
        where: {model.name: nf_resnet}                 # the runs; of a list any value; largest or smallest: that one
        against: {model.name: bn_resnet}               # the runs to compare with
        arms: {nf: {…}, bn: {…}}                       # instead of both, where there are more than two
        across: largest                                # of several runs a seed; without it there may be one
        quantity: {name: curve_distance, statistic: avg_var}      # see claim_quantities.py
        seeds: independent                             # arms of a seed share nothing; else they are paired by seed
        diverged: chance                               # what a diverged run is: see Diverged
        rule: {high: 0.1}                              # low and high are allowed themselves, above and below are not
        note: what a reader has to know
    explained:                       # what somebody who looked at the runs thinks of the verdict, scale by scale
      laptop: {verdict: inconclusive, reason: why it came out so, settled_by: what would decide it}
  C39:
    untested: why there is no test                     # instead of tests
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nfrepro.claims.measured_run import Extreme
from nfrepro.claims.number_quantities import BestDifference, Contrast, FittedDecay, NumberDifference, OfCollapse
from nfrepro.claims.quantities import Quantity
from nfrepro.errors import InputError, did_you_mean
from nfrepro.options import Options
from nfrepro.specs.origins import Origin
from nfrepro.stats.bounds import Bounds

Where = Mapping[str, tuple[Any, ...]]  # column of runs.csv -> the values that are meant

# The authors' code or an image of their figure; their second paper (arXiv 2102.06171); summaries and copies by others;
# computed from the paper's formulae or from their code; nowhere seen.
KnownFrom = Literal["authors", "second_paper", "others", "computed", "nowhere"]

# left_out: it gives no value, which is said; chance: its top-1 is that of guessing; counts: as soon as a run diverged,
# the arm with fewer diverged runs is the better one, if by more than chance.
Diverged = Literal["left_out", "chance", "counts"]


class Rule(Options):
    """What the quantity may be."""

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
    note: str | None = None

    @model_validator(mode="after")
    def _says_what_a_diverged_run_is(self) -> "ClaimTestForm":
        quantity = self.quantity
        if isinstance(quantity, OfCollapse):
            if self.diverged is not None:
                raise ValueError(f"{quantity.name} counts diverged runs and takes no diverged")
        elif isinstance(quantity, Contrast | BestDifference) and self.diverged in (None, "counts"):
            raise ValueError(f"{quantity.name} needs diverged: chance or left_out")
        elif self.diverged == "counts" and not isinstance(quantity, NumberDifference):
            raise ValueError(f"diverged: counts is for number_difference, not for {quantity.name}")
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
        if name == "best_difference" and math.isfinite(bounds.high):
            raise ValueError("best_difference takes low or above only")
        return self

    @model_validator(mode="after")
    def _takes_several_runs_once(self) -> "ClaimTestForm":
        if isinstance(self.quantity, FittedDecay) and self.across is not None:
            raise ValueError("decay takes all runs of a seed together, and no across")
        return self

    @property
    def divergence(self) -> Diverged:
        """What a diverged run is, by default too."""
        return self.diverged or ("counts" if isinstance(self.quantity, NumberDifference) else "left_out")


class ClaimForm(Options):
    """A claim without its tests."""

    statement: Annotated[str, Field(min_length=1)]
    source: str
    stated_by: str
    known_from: KnownFrom
    paper: str | None  # the paper's number or numbers
    note: str | None = None
    untested: str | None = None  # why it has no tests


class Explanation(Options):
    """Why a verdict is not `supported`, by a person who looked at the runs. It holds for that verdict only."""

    verdict: Literal["contradicted", "inconclusive", "not run"]
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

    def applies_at(self, scale: str) -> bool:
        return self.scales is None or scale in self.scales


@dataclass(frozen=True)
class Claim:
    """A statement, and the tests that all have to hold for it."""

    id: str
    form: ClaimForm
    tests: tuple[ClaimTest, ...]
    explained: Mapping[str, Explanation]  # by scale
    series: str  # whose claim it is


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
