"""Screens and tables made with rich; they also escape text from elsewhere."""

import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from nfrepro.terminal import one_line, printable

AS_WIDE_AS_NEEDED = 10_000


def width_here() -> int:
    """The width of the terminal or, without one, more than any table needs."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else AS_WIDE_AS_NEEDED


class Screen(Console):
    """A console on which only rich itself, and no text, controls the terminal."""

    def __init__(self, stderr: bool = False, **settings: Any) -> None:
        stream = sys.stderr if stderr else sys.stdout
        file = getattr(stream, "rich_proxied_file", stream)  # as it is now: a live display replaces the stream
        super().__init__(file=file, highlight=False, markup=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def words(text: str, **layout: Any) -> Text:
    """The text on one line, without markup, escaped before its width is measured."""
    return Text(one_line(text), **layout)


def table_lines(
    rows: Iterable[Sequence[str]], right: Collection[int] = (), width: int = AS_WIDE_AS_NEEDED
) -> list[str]:
    """The lines of a plain table, with the columns at places `right` aligned right, and cells folded to fit `width`."""
    rows = list(rows)
    table = Table.grid(padding=(0, 2))
    for place in range(len(rows[0])):
        table.add_column(justify="right" if place in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(words, row))
    screen = Screen(width=width, color_system=None)
    with screen.capture() as capture:
        screen.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]
