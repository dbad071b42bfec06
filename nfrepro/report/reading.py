"""From claims and stored results to what the report says."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from nfrepro.claims.checks import check_runs, known_scales
from nfrepro.claims.claim import Claim
from nfrepro.claims.file import Schemas, load_claims
from nfrepro.claims.judge import ClaimVerdict, judge
from nfrepro.claims.verdicts import Verdict
from nfrepro.report.cards import Card, Reading, card
from nfrepro.report.figures import Figures, find_figures
from nfrepro.runs.table import table_path
from nfrepro.specs import find_experiments, load_experiment


@dataclass(frozen=True)
class Report:
    """The verdicts at each scale that has results, and what formats show of them."""

    verdicts: Mapping[str, Sequence[ClaimVerdict]]  # by scale, smaller ones first
    cards: tuple[Card, ...]
    figures: tuple[Figures, ...]

    @property
    def scales(self) -> tuple[str, ...]:
        return tuple(self.verdicts)

    @property
    def series(self) -> list[tuple[str, list[Card]]]:
        """The cards of each series under its name, in the order of the file."""
        return [(name, list(cards)) for name, cards in groupby(self.cards, key=lambda card: card.series)]

    def tally(self, scale: str) -> dict[Verdict, int]:
        """How many claims have which verdict."""
        return Counter(found.verdict for found in self.verdicts[scale])

    def figures_of(self, reading: Reading) -> list[Figures]:
        """Those of the experiments that the claim is tested by."""
        wanted = {(experiment, reading.scale) for experiment in reading.experiments}
        return [figures for figures in self.figures if (figures.experiment, figures.scale) in wanted]

    def unexplained(self) -> list[str]:
        """Contradicted and inconclusive claims of which nobody has said a likely reason, each with its scale."""
        return [
            f"{card.id} ({reading.scale})"
            for card in self.cards
            for reading in card.readings
            if reading.needs_a_reason and not reading.likely_reason
        ]


def read_report(experiments: Path, results: Path, schemas: Schemas) -> Report:
    """Raises `InputError` for claims or results that cannot be read, or do not fit each other."""
    claims = load_claims(experiments, schemas)
    scales = known_scales(claims, experiments)
    verdicts = {}
    for scale in stored_scales(claims, scales, results):
        check_runs(claims, experiments, scale, schemas)
        verdicts[scale] = judge(claims, results, scale)
    listed = [load_experiment(path.stem, experiments) for path in find_experiments(experiments)]
    return Report(
        verdicts,
        tuple(card(found, scales) for found in zip(*verdicts.values(), strict=True)),
        tuple(find_figures(listed, results, tuple(verdicts))),
    )


def stored_scales(claims: Sequence[Claim], scales: Sequence[str], results: Path) -> list[str]:
    """The scales with results that tests are for; where there are none, the first scale that tests are for."""
    tests = {scale: [test for claim in claims for test in claim.tests if test.applies_at(scale)] for scale in scales}
    tested = [scale for scale in scales if tests[scale]]
    stored = [s for s in tested if any(table_path(results, test.form.experiment, s).exists() for test in tests[s])]
    return stored or tested[:1]
