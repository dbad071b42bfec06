"""How often verdicts are wrong by chance, and how often right: the whole procedure on simulated seeds.

Simulates lists of claims like ours, on accuracies like ours: normal, with unequal spread, with seeds that start late,
with runs that diverge. Every claim says that a mean is above 0. Lists in which all claims are just false give the error
rate; a claim that is true by a given number of standard deviations gives the power.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from nfrepro.claims.rule import Course, rule
from nfrepro.stats.intervals import Bounds
from nfrepro.stats.power import power_of_mean_test
from nfrepro.stats.samples import MeanSample, PValues, Term, paired
from nfrepro.stats.sequential import nominal_levels

LOOKS = (4, 6, 8)
CLAIMS = 40
TRIALS = 2000
EFFECTS = (1.0, 1.5, 2.0, 3.0)
ABOVE = Bounds(0.0, low_included=False)
RATE = 0.025

Values = NDArray[np.float64]  # trials x claims x arms x seeds
Draw = Callable[[np.random.Generator, tuple[int, int]], Values]


@dataclass(frozen=True)
class Kind:
    """The way a claim's values are drawn and compared."""

    name: str
    draw: Draw
    weights: tuple[float, ...] = (1.0, -1.0)
    by_seed: bool = False
    diverges: bool = False


def _normal(*deviations: float) -> Draw:
    def draw(generator: np.random.Generator, shape: tuple[int, int]) -> Values:
        values: Values = generator.normal(0.0, 1.0, (*shape, len(deviations), LOOKS[-1]))
        values *= np.array(deviations)[:, None]
        return values

    return draw


def _in_common(generator: np.random.Generator, shape: tuple[int, int]) -> Values:
    """Two arms whose seeds have much in common."""
    common = generator.normal(0.0, 3.0, (*shape, 1, LOOKS[-1]))
    return common + generator.normal(0.0, 1.0, (*shape, 2, LOOKS[-1]))


def _late(share: Sequence[float], fall: float, level: Sequence[float] = (0.0, 0.0)) -> Draw:
    """Two arms, in each of which a share of the seeds starts late and ends `fall` lower."""

    def draw(generator: np.random.Generator, shape: tuple[int, int]) -> Values:
        values: Values = generator.normal(0.0, 1.0, (*shape, 2, LOOKS[-1])) + np.array(level)[:, None]
        values -= fall * (generator.random(values.shape) < np.array(share)[:, None])
        return values

    return draw


def _diverging(share: float) -> Draw:
    """Accuracies around 80, or 10 if the run diverged."""

    def draw(generator: np.random.Generator, shape: tuple[int, int]) -> Values:
        values = generator.normal(80.0, 1.0, (*shape, 2, LOOKS[-1]))
        return np.where(generator.random(values.shape) < share, 10.0, values)

    return draw


KINDS = (
    Kind("two arms, normal", _normal(1, 1)),
    Kind("two arms, spread 1 : 3", _normal(1, 3)),
    Kind("paired by seed", _in_common, by_seed=True),
    Kind("contrast of four arms", _normal(1, 1, 2, 0.5), (1.0, -1.0, -1.0, 1.0)),
    Kind("two arms, one seed in five late", _late((0.2, 0.2), 20)),
    Kind("two arms, one run in five diverges", _diverging(0.2), diverges=True),
    Kind("late seeds in one arm only, equal means", _late((0.0, 0.2), 20, (0.0, 4.0))),
)


def bench_calibration(trials: int = TRIALS) -> Iterator[str]:
    """Error rate of lists in which every claim is just false, and power for a claim that is true."""
    yield f"{CLAIMS} claims, looks at {', '.join(map(str, LOOKS))} seeds; {trials} lists of each kind; seeded"
    yield ""
    yield "| every claim just false: lists with a wrong verdict | supported | contradicted | nominal |"
    yield "| --- | --- | --- | --- |"
    for number, kind in enumerate(KINDS):
        supported, contradicted = errors(kind, trials, CLAIMS, seed=number)
        yield f"| {kind.name} | {_share(supported, trials)} | {_share(contradicted, trials)} | {RATE:.1%} |"
    yield ""
    yield "| one claim true, by … standard deviations | alone | computed | among 40, 20 decided | computed |"
    yield "| --- | --- | --- | --- | --- |"
    for effect in EFFECTS:
        alone, among = (power(effect, trials, rate) for rate in (RATE, RATE / (CLAIMS // 2)))
        cells = [_share(alone, trials), f"{computed(effect, RATE):.1%}"]
        cells += [_share(among, trials), f"{computed(effect, RATE / (CLAIMS // 2)):.1%}"]
        yield f"| {effect:g} | {' | '.join(cells)} |"


def bench_calibration_quickly() -> Iterator[str]:
    """Runs `bench_calibration` with few lists; the numbers mean little."""
    return bench_calibration(trials=40)


def errors(kind: Kind, trials: int, claims: int, seed: int) -> tuple[float, float]:
    """The shares of lists with a claim wrongly supported, and with one wrongly contradicted."""
    values = kind.draw(np.random.default_rng(seed), (trials, claims))
    p = _p_values(values, kind)
    wrong = np.zeros(2)
    for trial in range(trials):
        if p[trial].min() > RATE:  # no level is higher
            continue
        courses = [Course(tuple(PValues(*pair) for pair in p[trial, claim]), LOOKS) for claim in range(claims)]
        verdicts = {ruling.verdict for ruling in rule(courses)}
        wrong += [verdict in verdicts for verdict in ("supported", "contradicted")]
    return float(wrong[0] / trials), float(wrong[1] / trials)


def power(effect: float, trials: int, rate: float) -> float:
    """How often a difference between two normal arms is found at one of the looks, at this share of the error rate."""
    values = _normal(1, 1)(np.random.default_rng(100), (trials, 1)) + np.array([effect, 0.0])[:, None]
    p = _p_values(values, KINDS[0])[:, 0, :, 0]
    return float(np.mean((p <= np.array(nominal_levels(rate, LOOKS))).any(axis=1)))


def computed(effect: float, rate: float) -> float:
    """The power of the last look alone, by the noncentral t: a lower bound."""
    return power_of_mean_test(effect, 1.0, LOOKS[-1], nominal_levels(rate, LOOKS)[-1], arms=2)


def _p_values(values: Values, kind: Kind) -> NDArray[np.float64]:
    """P-values, trials x claims x looks x (outside, inside): as in verdicts, or 1 if no level can reach them."""
    p = np.ones((*values.shape[:2], len(LOOKS), 2))
    for at, n in enumerate(LOOKS):
        rough = _t_values(values[..., :n], kind)
        for trial, claim in zip(*np.nonzero(rough <= 2 * RATE), strict=True):
            found = _sample(values[trial, claim, :, :n], kind).p_values()
            p[trial, claim, at] = found.outside, found.inside
    return p


def _t_values(values: Values, kind: Kind) -> NDArray[np.float64]:
    """The smaller one-sided p-value of a t test with the most degrees of freedom: a lower bound for all other tests."""
    weights, n = np.array(kind.weights), values.shape[-1]
    sums = np.einsum("a,tcas->tcs", weights, values)
    estimate = sums.mean(axis=-1)
    if kind.by_seed:
        variance, freedom = sums.var(axis=-1, ddof=1), n - 1
    else:
        variance = (weights**2 * values.var(axis=-1, ddof=1)).sum(axis=-1)
        freedom = len(weights) * (n - 1)
    t = np.abs(estimate) / np.sqrt(np.maximum(variance, 1e-12) / n)
    smaller: NDArray[np.float64] = special.stdtr(freedom, -t)
    return smaller


def _sample(arms: Values, kind: Kind) -> MeanSample:
    if kind.by_seed:
        return paired([tuple(arm) for arm in arms], kind.weights, ABOVE)
    terms = tuple(Term(weight, tuple(arm)) for weight, arm in zip(kind.weights, arms.tolist(), strict=True))
    return MeanSample(ABOVE, terms, has_diverged=kind.diverges and bool((arms == 10.0).any()))


def _share(share: float, trials: int) -> str:
    return f"{share:.1%} ± {np.sqrt(share * (1 - share) / trials):.1%}"
