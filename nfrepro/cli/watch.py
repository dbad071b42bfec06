"""Watches a sweep from another shell: on a terminal by a table that is refreshed, else by a line for each change."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.live import Live
from rich.text import Text

from nfrepro.cli.screen import Screen
from nfrepro.cli.status_table import numbers, table
from nfrepro.runs.status import ACTIVE, Row
from nfrepro.runs.store import DONE

SECONDS_BETWEEN_LOOKS = 2.0
FOLLOWED = (*ACTIVE, "waiting")  # states in which `logs --follow` goes on
# Runs in states that change come first if a terminal has too few lines.
IN_ORDER = ("running", "stalled", "requeued", "failed", "cancelled", "interrupted", "queued", "waiting")


@dataclass(frozen=True)
class View:
    """The content of `status --watch` at one moment."""

    rows: Sequence[Row]
    footer: Sequence[str]
    seconds_of_rest: float  # seconds without queued or running runs before the end


def watch(look: Callable[[], View]) -> None:
    """Shows what `look` sees until nothing is queued or running."""
    show_all(look) if sys.stdout.isatty() else show_changes(look)


def show_all(look: Callable[[], View]) -> None:
    console = Screen()
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        for view in views(look):
            live.update(Text("\n".join(_that_fit(view, console.width, console.height)), no_wrap=True), refresh=True)


def show_changes(look: Callable[[], View]) -> None:
    before: dict[str, object] = {}
    footer: Sequence[str] = ()
    for view in views(look):
        for row in view.rows:
            told = (row.state, row.metrics, row.requeues)
            if before.get(row.id) != told and not (row.id not in before and row.state in (*DONE, "waiting")):
                print(f"{time.strftime('%H:%M:%S')}  {row.state:11}  {row.id}  {numbers(row)}".rstrip(), flush=True)
            before[row.id] = told
        if view.footer != footer:
            print("\n".join(view.footer), flush=True)
        footer = view.footer


def views(look: Callable[[], View], states: Sequence[str] = ACTIVE) -> Iterator[View]:
    """A view every two seconds while a run is in one of these `states`, or may be soon."""
    active = time.monotonic()
    while True:
        view = look()
        yield view
        if any(row.state in states for row in view.rows):
            active = time.monotonic()
        rests = time.monotonic() - active >= view.seconds_of_rest
        if rests or all(row.state in (*DONE, "failed", "cancelled") for row in view.rows):
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _that_fit(view: View, width: int, height: int) -> list[str]:
    """The lines of the table and its footer that fit on a terminal, whose last line has the cursor."""
    footer = [line[:width] for line in view.footer]
    room = height - len(footer) - 3
    if len(view.rows) <= room + 1:
        return [*table(view.rows, width), *footer]
    order = {state: place for place, state in enumerate(IN_ORDER)}
    first = sorted(view.rows, key=lambda row: order.get(row.state, len(order)))[: max(1, room)]
    shown = {row.id for row in first}
    lines = table([row for row in view.rows if row.id in shown], width)
    return [*lines, f"… and {len(view.rows) - len(shown)} more", *footer]
