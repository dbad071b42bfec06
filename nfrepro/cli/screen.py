"""rich on a terminal: text of others is shown escaped there, too."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from nfrepro.terminal import one_line, printable


class Screen(Console):
    """A console of which nothing but rich itself controls the terminal."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, markup=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def words(text: str, **layout: Any) -> Text:
    """Text in one line, without markup, escaped before its width is measured."""
    return Text(one_line(text), **layout)
