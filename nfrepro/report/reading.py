"""The report's content, read from claims and stored results."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from nfrepro.claims.claim import Verdict
from nfrepro.claims.file import Schemas, load_claims
from nfrepro.claims.judge import ClaimVerdict, Judgement, judge_stored
from nfrepro.claims.runs import known_scales
from nfrepro.report.cards import Card, Reading, card, finding
from nfrepro.report.costs import Costs
from nfrepro.report.figures import Figure, Figures, find_figures
from nfrepro.report.paper_parts import PARTS, PaperPart
from nfrepro.report.sections import Section, place
from nfrepro.specs import find_experiments, load_experiment


@dataclass(frozen=True)
class Group:
    """The claims of one series that belong to one section."""

    series: str
    section: Section
    cards: tuple[Card, ...]

    @property
    def key(self) -> str:
        """The anchor of the group: a section may occur in several series, whose ids begin with different letters."""
        return f"{self.section.key}-{self.cards[0].id[0]}".lower()


@dataclass(frozen=True)
class Part:
    """A figure or a table of the paper, with our figure and the claims about it."""

    part: PaperPart
    figures: Figures
    figure: Figure
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Report:
    """The verdicts of the list, those of each scale that has results, and their text and figures for all formats."""

    judgement: Judgement
    cards: tuple[Card, ...]
    figures: tuple[Figures, ...]
    tested: Mapping[str, tuple[str, ...]]  # experiment -> the ids of the claims that its file names

    @property
    def scales(self) -> tuple[str, ...]:
        """The scales with results, smaller ones first."""
        return tuple(self.judgement.by_scale)

    @property
    def series(self) -> list[tuple[str, list[Card]]]:
        """The cards of each series under its name, in the order of the file."""
        return [(name, list(cards)) for name, cards in groupby(self.cards, key=lambda card: card.series)]

    @property
    def groups(self) -> list[Group]:
        """The cards of each section, in the order of the sections, series by series."""
        found = []
        for series, cards in self.series:
            sections = sorted(dict.fromkeys(card.section for card in cards), key=place)
            found += [Group(series, of, tuple(card for card in cards if card.section == of)) for of in sections]
        return found

    @property
    def parts(self) -> list[Part]:
        """The paper's figures and tables for which we have a figure."""
        return [
            Part(part, figures, shown[0], tuple(card for card in self.cards if card.id in self.tested[part.experiment]))
            for part in PARTS
            for figures in self.shown
            if part.printed and figures.experiment == part.experiment
            if (shown := [figure for figure in figures.figures if figure.name == part.figure_name])
        ]

    @property
    def shown(self) -> list[Figures]:
        """The figures of each experiment at the largest scale that has any: `figures` has larger scales first."""
        drawn = (figures for figures in self.figures if figures.figures)
        return list({figures.experiment: figures for figures in [*drawn][::-1]}.values())[::-1]

    def tally(self, scale: str | None = None) -> dict[Verdict, int]:
        """The number of claims with each verdict in the list, of those judged at one scale or of all."""
        best = self.judgement.best
        found = [of for of in best if scale is None or (of.scale == scale and of.applying)]
        return Counter(verdict.verdict for verdict in found)

    @property
    def tally_by_series(self) -> list[tuple[str, dict[Verdict, int]]]:
        """The number of claims with each verdict, series by series."""
        return [(name, Counter(card.best.verdict for card in cards)) for name, cards in self.series]

    @property
    def exact(self) -> dict[Verdict, int]:
        """The number of exact claims with each verdict."""
        return Counter(verdict.verdict for verdict in self.judgement.best if verdict.exact)

    @property
    def found(self) -> list[tuple[str, str]]:
        """The findings in words, as pairs of claim and sentence."""
        return [(found.claim.id, text) for found in self.judgement.best if (text := finding(found))]

    def figures_of(self, reading: Reading) -> list[Figures]:
        """The figures of the experiments that test the claim."""
        wanted = {(experiment, reading.scale) for experiment in reading.experiments}
        return [figures for figures in self.figures if (figures.experiment, figures.scale) in wanted]

    def unexplained(self) -> list[str]:
        """Contradicted and inconclusive claims for which a likely reason is missing, each with its scale."""
        best = ((card, card.readings[0]) for card in self.cards)
        return [f"{card.id} ({of.scale})" for card, of in best if of.needs_a_reason and not of.likely_reason]


def read_report(experiments: Path, results: Path, schemas: Schemas) -> Report:
    """The report on stored results. Raises `InputError` for claims or results that cannot be read or do not fit."""
    claims = load_claims(experiments, schemas)
    scales = known_scales(claims, experiments)
    judgement = judge_stored(claims, scales, experiments, results, schemas)
    listed = [load_experiment(path.stem, experiments) for path in find_experiments(experiments)]
    costs = Costs(results)
    return Report(
        judgement,
        tuple(card(*found, scales, costs) for found in zip(judgement.best, _others(judgement), strict=True)),
        tuple(find_figures(listed, results, tuple(judgement.by_scale)[::-1])),
        {experiment.name: tuple(experiment.claims) for experiment in listed},
    )


def _others(judgement: Judgement) -> list[list[ClaimVerdict]]:
    """For each claim, the verdicts at scales other than its best at which it has tests, larger ones first."""
    by_claim = zip(*judgement.by_scale.values(), strict=True)
    return [
        [found for found in verdicts[::-1] if found.scale != best.scale and found.applying]
        for best, verdicts in zip(judgement.best, by_claim, strict=True)
    ]
