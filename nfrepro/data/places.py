"""Where data sets are stored on this machine. No torch."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOTS_VARIABLE = "NFREPRO_DATA"

# Below the current folder; fetched files go here.
OWN_ROOT = Path("data")


def data_roots() -> tuple[Path, ...]:
    """The folders of `$NFREPRO_DATA` (separated as in `$PATH`), then `./data`."""
    named = [Path(part).expanduser() for part in os.environ.get(ROOTS_VARIABLE, "").split(os.pathsep) if part]
    return tuple(dict.fromkeys([*named, OWN_ROOT]))


@dataclass(frozen=True)
class FetchStep:
    """One way to get a data set. `make` fills the empty folder it is given and returns the folder of the files."""

    name: str
    make: Callable[[Path], Path]


@dataclass(frozen=True)
class Files:
    """Where one data set may be found, how it is recognised and checked, and how it can be fetched."""

    title: str
    # In look-up order.
    places: tuple[Path, ...]
    # Whether the data set, or a part of it, is at a place.
    holds: Callable[[Path], bool]
    # Raises InputError, naming the file, if one at the place is missing or not as it should be. Returns a line for the
    # user on the contents, or None.
    check: Callable[[Path], str | None]
    # What the user can do if it is not found.
    advice: str
    # Where it goes once fetched: one of `places`. Used only with `fetch_steps`.
    destination: Path = OWN_ROOT
    # In the order they are tried.
    fetch_steps: tuple[FetchStep, ...] = ()
