"""The reasons why a verdict is not clear, and what would settle it, as far as they can be computed."""

from collections.abc import Iterator, Sequence

from nfrepro.claims.claim import Claim
from nfrepro.claims.judge import ClaimVerdict
from nfrepro.claims.rule import Decision
from nfrepro.stats.intervals import Bounds


def why_open(decision: Decision, bounds: Bounds) -> str:
    """The place of an inconclusive test's interval, or the level that its p-value missed; empty for other verdicts."""
    interval = decision.interval
    if decision.verdict != "inconclusive" or interval is None:
        return ""
    inside = interval.low in bounds and interval.high in bounds
    if not inside and interval.high >= bounds.low and interval.low <= bounds.high:
        return "The interval crosses a bound of the rule."
    side = "inside" if inside else "outside"
    return (
        f"The interval lies {side} the bounds of the rule, but p = {decision.p:.2g} misses the level of "
        f"{decision.level:.2g} that the number of claims and looks requires."
    )


def settled_by(found: ClaimVerdict, scales: Sequence[str]) -> Iterator[str]:
    """The steps that would settle a claim: those given in its explanation, and those that follow from its runs.

    There are none for a claim that is supported or a fact.
    """
    if found.verdict in ("supported", "fact"):
        return
    if found.explanation is not None and found.explanation.settled_by:
        text = found.explanation.settled_by
        yield text if text.endswith(".") else f"{text}."
    if found.ending == "open":
        yield "More seeds: make settle."
    if found.exact:
        yield "It is settled: the computation is deterministic."
        return
    if found.verdict == "contradicted":
        yield "At this scale it is settled, beyond chance."
    if found.verdict != "not run" or not found.applying:  # otherwise it only has to be run
        yield from _larger_scale(found.claim, found.scale, scales)


def _larger_scale(claim: Claim, scale: str, scales: Sequence[str]) -> Iterator[str]:
    """The step to the largest scale at which the claim's tests apply, if it is larger than this one."""
    larger = [
        other for other in scales[scales.index(scale) + 1 :] if any(test.applies_at(other) for test in claim.tests)
    ]
    if larger:
        names = dict.fromkeys(test.form.experiment for test in claim.tests if test.applies_at(larger[-1]))
        sweeps = ", ".join(f"make sweep EXP={name} SCALE={larger[-1]}" for name in names)
        yield f"The same question at scale {larger[-1]}: {sweeps}."
