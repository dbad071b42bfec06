"""Progress display: bars on a terminal, plain lines elsewhere. For the command line only."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from nfrepro.cli.screen import Screen, words
from nfrepro.cli.status_table import duration
from nfrepro.launch.local_queue import Event


class Display(Protocol):
    """Shows the events of a sweep as they come."""

    def observe(self, event: Event) -> None: ...
    def stopping(self) -> None: ...
    def __enter__(self) -> "Display": ...
    def __exit__(self, *exception: object) -> None: ...


def make_display(total: int, done: int, varied: Mapping[str, str]) -> Display:
    """A display for `total` runs of which `done` are finished: bars if standard output is a terminal, else lines.

    `varied` gives the options to show after the id of each run.
    """
    return Bars(total, done, varied) if sys.stdout.isatty() else Lines(total, done, varied)


@dataclass
class Pace:
    """The pace of one run, as observed by this process."""

    started: float = field(default_factory=time.monotonic)
    first_done: int | None = None

    def seconds_left(self, done: int, total: int) -> float | None:
        """The estimated time left; None until the run has advanced."""
        if self.first_done is None:
            self.started, self.first_done = time.monotonic(), done
        advanced = done - self.first_done
        return (time.monotonic() - self.started) * (total - done) / advanced if advanced > 0 else None


class Lines:
    """Prints a plain line for each relevant event: for logs and pipes."""

    def __init__(self, total: int, done: int, varied: Mapping[str, str]) -> None:
        self.total, self.done, self.varied = total, done, varied
        self.paces: dict[str, Pace] = {}

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def observe(self, event: Event) -> None:
        name = _with_options(event.run.id, self.varied)
        if event.kind == "progress":
            pace = self.paces.setdefault(event.run.id, Pace())
            left = pace.seconds_left(event.content["done"], event.content["total"])
            if event.content["milestone"] and event.content["done"] < event.content["total"]:
                self._line(f"{name}  {event.content['text']}  {duration(left)} left")
        elif event.kind == "complaint":
            self._line(f"{name}  {event.content['text']}")
        elif event.kind == "claimed":
            self._line(f"{name}  {event.content['text']}: waiting for it")
        elif event.kind == "ended":
            self.done += 1
            self._line(f"[{self.done}/{self.total}] {name}  {ending_in_words(event)}")

    def stopping(self) -> None:
        self._line("stopping: the active runs save their state")

    def _line(self, text: str) -> None:
        print(text, flush=True)


class Bars:
    """Shows a bar for the sweep and a line for each active run."""

    def __init__(self, total: int, done: int, varied: Mapping[str, str]) -> None:
        self.console, self.varied = Screen(), varied
        self.ended = 0
        self.active: dict[str, str] = {}
        self.paces: dict[str, Pace] = {}
        self.fractions: dict[str, float] = {}  # of the active runs
        self.total, self.started = total - done, time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("runs"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]} left"),
            console=self.console,
        )
        self.task = self.bar.add_task("sweep", total=total, completed=done, left=duration(None))
        self.live = Live(get_renderable=self._render, console=self.console, refresh_per_second=4)

    def __enter__(self) -> "Bars":
        self.live.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.live.__exit__(None, None, None)

    def observe(self, event: Event) -> None:
        name = _with_options(event.run.id, self.varied)
        if event.kind == "started":
            self.active[name] = "starting"
        elif event.kind == "progress":
            left = self.paces.setdefault(name, Pace()).seconds_left(event.content["done"], event.content["total"])
            self.active[name] = f"{event.content['text']}  {duration(left)} left"
            self.fractions[name] = event.content["done"] / max(1, event.content["total"])
        elif event.kind == "complaint":
            self.console.print(words(f"{name}  {event.content['text']}", style="yellow"))
        elif event.kind == "claimed":
            self.active[name] = "another sweep executes it: waiting"
        elif event.kind == "ended":
            self.active.pop(name, None)
            self.fractions.pop(name, None)
            self.ended += 1
            self.bar.advance(self.task)
            style = "" if event.content["ending"] == "completed" else "yellow"
            self.console.print(words(f"{name}  {ending_in_words(event)}", style=style))

    def stopping(self) -> None:
        self.console.print("stopping: the active runs save their state (Ctrl-C again: stop at once)")

    def _render(self) -> Group:
        self.bar.update(self.task, left=duration(self._seconds_left()))
        lines = [words(f"  {name}  {text}", no_wrap=True, overflow="ellipsis") for name, text in [*self.active.items()]]
        return Group(*lines, self.bar)

    def _seconds_left(self) -> float | None:
        """The time left, from the runs that ended and the fractions of active ones; None while these are too few."""
        done = self.ended + sum(self.fractions.values())
        elapsed = time.monotonic() - self.started
        return elapsed * (self.total - done) / done if done > 0.05 else None


class Counter:
    """Counts `total` things that get done, on standard error: a bar on a terminal, else a line every ten seconds."""

    SECONDS = 10.0

    def __init__(self, total: int, things: str) -> None:
        self.total, self.done, self.things = total, 0, things
        self.pace, self.shown = Pace(first_done=0), time.monotonic()
        self.bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(things),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]} left"),
            console=Screen(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self.task = self.bar.add_task("", total=total, left=duration(None))

    def __enter__(self) -> "Counter":
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def advance(self, count: int) -> None:
        """Counts `count` more things as done."""
        self.done += count
        left = duration(self.pace.seconds_left(self.done, self.total))
        self.bar.update(self.task, completed=self.done, left=left)
        if self.bar.disable and time.monotonic() - self.shown >= self.SECONDS and self.done < self.total:
            self.shown = time.monotonic()
            print(f"{self.done:,}/{self.total:,} {self.things}  {left} left", file=sys.stderr, flush=True)


class Waiting:
    """Shows a line on standard error that says what is being waited for, while it lasts; only on a terminal."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.status = Screen(stderr=True).status(words(what)) if sys.stderr.isatty() else None

    def __enter__(self) -> "Waiting":
        if self.status is not None:
            self.status.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.status is not None:
            self.status.stop()

    def show(self, text: str) -> None:
        if self.status is not None:
            self.status.update(words(f"{self.what}  {text}"))


def _with_options(name: str, varied: Mapping[str, str]) -> str:
    return f"{name}  {varied[name]}" if varied.get(name) else name


def ending_in_words(event: Event) -> str:
    """The end of a run as text: `completed: top1 87.10 %, 31 s of training`."""
    ending, text = event.content["ending"], event.content["text"]
    if ending == "diverged" and text.startswith("diverged"):
        return str(text)
    return f"{ending}: {text}" if text else str(ending)
