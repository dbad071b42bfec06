"""Text of others as a terminal may show it, and standard streams that may lose their readers.

What a verb prints passes through `Output`, so that none can forget to escape it.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

READER_LEFT = 141  # exit status, as of what a closed pipe kills


def printable(text: str) -> str:
    """The text with `\\x1b` for every character that a terminal obeys or hides; lines stay lines."""
    return re.sub(r"[^\n\t]+", lambda part: one_line(part[0]), text)


def one_line(text: str) -> str:
    """The same, and `\\n` where a line ends."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class Channel:
    """A stream that drops what nobody can take; unless it is `dispensable`, that also ends the process."""

    def __init__(self, stream: Any, name: str, dispensable: bool) -> None:
        self.stream, self.name, self.dispensable = stream, name, dispensable
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self._dropping():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._dropping():
            self.stream.flush()

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.stream.fileno())  # for child processes, too
            if not self.dispensable and isinstance(error, BrokenPipeError):
                raise SystemExit(READER_LEFT) from None
            if not self.dispensable:
                raise OSError(error.errno, error.strerror, self.name) from None


class Output:
    """A standard stream of which every text is `printable`."""

    def __init__(self, channel: Channel) -> None:
        self.rich_proxied_file = channel  # where rich writes, with control characters of its own: cli/screen.py

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)

    def write(self, text: str) -> int:
        return self.rich_proxied_file.write(printable(text))


def take_streams() -> None:
    """Let all that this process prints pass through `Output`, and nothing else have the number of a closed stream."""
    while (nowhere := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(nowhere, True)
    os.close(nowhere)
    nobody = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    sys.stdout = cast(Any, Output(Channel(sys.stdout or nobody, "standard output", dispensable=False)))
    sys.stderr = cast(Any, Output(Channel(sys.stderr or nobody, "standard error", dispensable=True)))


def outlive_readers() -> None:
    """From here on it is no error if nobody can take standard output: what is being done is worth more."""
    if isinstance(sys.stdout, Output):
        sys.stdout.rich_proxied_file.dispensable = True
