"""Finds the files of a data set, or fetches them. No torch, unless something has to be downloaded."""

from collections.abc import Callable, Sequence
from pathlib import Path

from nfrepro.data.catalog import SOURCES, MadeSource
from nfrepro.data.fetching import fetch as fetch_files
from nfrepro.data.options import DataOptions
from nfrepro.data.places import Files
from nfrepro.errors import InputError


def locate(options: DataOptions, fetch: bool = True, report: Callable[[str], None] = lambda line: None) -> Path | None:
    """Finds the folder of the data set and checks its files; None for a data set without files.

    Looks in `$NFREPRO_DATA` and `./data`, then where the system keeps it, then, with `fetch`, downloads it into
    `./data`. `report` receives a line for each step, and for which files of a folder are used and left out. Raises
    InputError if nothing is found, saying where it looked and what to do, or if a file is missing, truncated or
    altered, naming it: such a place is never skipped.
    """
    source = SOURCES[type(options)]
    if isinstance(source, MadeSource):
        return None
    files = source.files(options)
    place = _first_place(files)
    if place is None:
        failures = fetch_files(files, report) if fetch else []
        place = _first_place(files)
        if place is None:
            raise _missing(files, failures)
    if (line := files.check(place)) is not None:
        report(line)
    return place


def is_here(options: DataOptions) -> bool:
    """Whether the data set, or a part of it, is on this machine; nothing is checked or fetched."""
    source = SOURCES[type(options)]
    return isinstance(source, MadeSource) or _first_place(source.files(options)) is not None


def find(files: Files) -> Path:
    """The first place that holds the data set or a part of it; nothing is checked or fetched.

    Raises InputError if there is none.
    """
    place = _first_place(files)
    if place is None:
        raise _missing(files, [])
    return place


def _first_place(files: Files) -> Path | None:
    return next((place for place in files.places if files.holds(place)), None)


def _missing(files: Files, failures: Sequence[str]) -> InputError:
    looked = f"not found in {', '.join(str(place) for place in files.places)}"
    fetched = f", could not be fetched ({'; '.join(failures)})" if failures else ""
    return InputError(f"{files.title}: {looked}{fetched}: {files.advice}")
