"""Untrusted text, escaped for terminals, and standard streams that may lose their readers.

Everything that a command prints passes through `Output`, so that no command can forget to escape it.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

READER_LEFT = 141  # exit status, as of a process that a closed pipe kills


def printable(text: str) -> str:
    """The text with control and invisible characters escaped, such as `\\x1b`; line breaks and tabs are kept."""
    return re.sub(r"[^\n\t]+", lambda part: one_line(part[0]), text)


def one_line(text: str) -> str:
    """The text escaped as in `printable`, and line breaks and tabs as well: `\\n`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class Channel:
    """A stream that discards output once writing fails; unless it is `dispensable`, this also ends the process."""

    def __init__(self, stream: Any, name: str, dispensable: bool) -> None:
        self.stream, self.name, self.dispensable = stream, name, dispensable
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names need not be UTF-8

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
    """A standard stream that makes all its text `printable`."""

    def __init__(self, channel: Channel) -> None:
        self.rich_proxied_file = channel  # rich writes here, with its control characters: cli/screen.py

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)

    def write(self, text: str) -> int:
        return self.rich_proxied_file.write(printable(text))


def take_streams() -> None:
    """Routes all that this process prints through `Output`; keeps descriptors of closed streams from being reused."""
    while (nowhere := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(nowhere, True)
    os.close(nowhere)
    nobody = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    sys.stdout = cast(Any, Output(Channel(sys.stdout or nobody, "standard output", dispensable=False)))
    sys.stderr = cast(Any, Output(Channel(sys.stderr or nobody, "standard error", dispensable=True)))


def outlive_readers() -> None:
    """Makes standard output dispensable from now on: the work in progress matters more than a lost reader."""
    if isinstance(sys.stdout, Output):
        sys.stdout.rich_proxied_file.dispensable = True
