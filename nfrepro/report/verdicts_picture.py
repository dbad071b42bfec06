"""verdicts.svg: the picture at the top of the page, as a separate file."""

from dataclasses import dataclass
from itertools import accumulate

from nfrepro.report.cards import Card
from nfrepro.report.page import environment
from nfrepro.report.reading import Report

# Lengths in pixels.
COLUMNS, COLUMN, GAP, LINE, HEADING, TOP = 3, 400, 24, 17, 24, 44
_CHARACTERS = 36  # length of a statement that fits next to its strip


@dataclass(frozen=True)
class Line:
    """A heading or, if it has a card, a claim."""

    x: int
    y: int
    text: str
    card: Card | None = None


def verdicts_picture(report: Report) -> str:
    """Every claim's effect against the bound of its rule, by section, in columns of about the same height."""
    lines, height = _laid_out(report)
    width = COLUMNS * COLUMN + (COLUMNS - 1) * GAP
    return environment().get_template("verdicts.svg").render(report=report, lines=lines, width=width, height=height)


def _laid_out(report: Report) -> tuple[list[Line], int]:
    heights = [HEADING + LINE * len(group.cards) for group in report.groups]
    whole, ends = sum(heights), list(accumulate(heights))
    lines: list[Line] = []
    bottoms = [TOP] * COLUMNS
    for group, height, end in zip(report.groups, heights, ends, strict=True):
        # A group goes into the column that contains its middle when the columns are joined into one.
        column = min(COLUMNS - 1, int((end - height / 2) / whole * COLUMNS))
        x, y = column * (COLUMN + GAP), bottoms[column]
        lines.append(Line(x, y, group.section.title))
        lines += [
            Line(x, y + HEADING + LINE * number, shortened(card.statement), card)
            for number, card in enumerate(group.cards)
        ]
        bottoms[column] = y + height
    return lines, max(bottoms)


def shortened(text: str) -> str:
    """The text, or if it is too long for a line, its first whole words with an ellipsis."""
    if len(text) <= _CHARACTERS:
        return text
    return text[:_CHARACTERS].rsplit(" ", 1)[0].rstrip(" ,;:.") + " …"
