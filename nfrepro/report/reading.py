"""From claims and stored results to what the report says."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from nfrepro.claims.checks import check_runs, check_scale, known_scales
from nfrepro.claims.claim import Claim, Verdict
from nfrepro.claims.file import Schemas, load_claims
from nfrepro.claims.judge import ClaimVerdict, Judgement, judge, judge_best
from nfrepro.report.cards import Card, Reading, card, finding
from nfrepro.report.figures import Figures, find_figures
from nfrepro.runs.table import table_path
from nfrepro.specs import find_experiments, load_experiment


@dataclass(frozen=True)
class Report:
    """The verdicts of the list, those of each scale that has results, and what formats show of them."""

    judgement: Judgement
    cards: tuple[Card, ...]
    figures: tuple[Figures, ...]

    @property
    def scales(self) -> tuple[str, ...]:
        """Those with results, smaller ones first."""
        return tuple(self.judgement.by_scale)

    @property
    def series(self) -> list[tuple[str, list[Card]]]:
        """The cards of each series under its name, in the order of the file."""
        return [(name, list(cards)) for name, cards in groupby(self.cards, key=lambda card: card.series)]

    def tally(self, scale: str | None = None) -> dict[Verdict, int]:
        """How many claims of the list have which verdict; at one scale or at any."""
        found = [verdict for verdict in self.judgement.best if scale in (None, verdict.scale)]
        return Counter(verdict.verdict for verdict in found)

    @property
    def exact(self) -> dict[Verdict, int]:
        """How many of them are exact."""
        return Counter(verdict.verdict for verdict in self.judgement.best if verdict.exact)

    @property
    def found(self) -> list[tuple[str, str]]:
        """What was found, in words: claim and sentence."""
        return [(found.claim.id, text) for found in self.judgement.best if (text := finding(found))]

    def figures_of(self, reading: Reading) -> list[Figures]:
        """Those of the experiments that the claim is tested by."""
        wanted = {(experiment, reading.scale) for experiment in reading.experiments}
        return [figures for figures in self.figures if (figures.experiment, figures.scale) in wanted]

    def unexplained(self) -> list[str]:
        """Contradicted and inconclusive claims of which nobody has said a likely reason, each with its scale."""
        best = ((card, card.readings[0]) for card in self.cards)
        return [f"{card.id} ({of.scale})" for card, of in best if of.needs_a_reason and not of.likely_reason]


def verdicts_at(
    scale: str | None, claims: Sequence[Claim], experiments: Path, results: Path, schemas: Schemas
) -> list[ClaimVerdict]:
    """The verdicts of one scale, or (None) of the list. Raises `InputError` as `read_report` does."""
    if scale is None:
        return list(_judged(claims, known_scales(claims, experiments), experiments, results, schemas).best)
    check_scale(claims, experiments, scale)
    check_runs(claims, experiments, scale, schemas)
    return judge(claims, results, scale)


def read_report(experiments: Path, results: Path, schemas: Schemas) -> Report:
    """Raises `InputError` for claims or results that cannot be read, or do not fit each other."""
    claims = load_claims(experiments, schemas)
    scales = known_scales(claims, experiments)
    judgement = _judged(claims, scales, experiments, results, schemas)
    listed = [load_experiment(path.stem, experiments) for path in find_experiments(experiments)]
    return Report(
        judgement,
        tuple(card(*found, scales) for found in zip(judgement.best, _others(judgement), strict=True)),
        tuple(find_figures(listed, results, tuple(judgement.by_scale)[::-1])),
    )


def _judged(
    claims: Sequence[Claim], scales: Sequence[str], experiments: Path, results: Path, schemas: Schemas
) -> Judgement:
    stored = stored_scales(claims, scales, results)
    for scale in stored:
        check_runs(claims, experiments, scale, schemas)
    return judge_best(claims, results, stored)


def _others(judgement: Judgement) -> list[list[ClaimVerdict]]:
    """For each claim the verdicts at scales other than its best, larger ones first, where its tests apply."""
    by_claim = zip(*judgement.by_scale.values(), strict=True)
    return [
        [found for found in verdicts[::-1] if found.scale != best.scale and found.applying]
        for best, verdicts in zip(judgement.best, by_claim, strict=True)
    ]


def stored_scales(claims: Sequence[Claim], scales: Sequence[str], results: Path) -> list[str]:
    """The scales with results that tests are for; where there are none, the first scale that tests are for."""
    tests = {scale: [test for claim in claims for test in claim.tests if test.applies_at(scale)] for scale in scales}
    tested = [scale for scale in scales if tests[scale]]
    stored = [s for s in tested if any(table_path(results, test.form.experiment, s).exists() for test in tests[s])]
    return stored or tested[:1]
