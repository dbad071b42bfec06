"""The stored figures and tables of experiments, as they are: nothing is drawn anew."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from nfrepro import atomic
from nfrepro.errors import InputError
from nfrepro.runs.store import scale_folder
from nfrepro.specs import Experiment

# Of a data URI: what may stand in a URL and means nothing in a quoted attribute of HTML.
_SAFE = " !$()*+,;=:@/?'"
# Coordinates of a picture, in points.
_COORDINATES = re.compile(r'(?<= d=")[^"]*|(?<= [xy]=")[\d.]+')
_BEYOND_A_HUNDREDTH = re.compile(r"(\.\d\d)\d+")


@dataclass(frozen=True)
class Figure:
    """One picture."""

    path: str  # below the results
    caption: str
    svg: str

    @property
    def data_uri(self) -> str:
        """The picture as an address that holds all of it, its coordinates to a hundredth of a point.

        As text, since that is smaller than base64 in an archive.
        """
        return f"data:image/svg+xml,{quote(_compact(self.svg), safe=_SAFE)}"


@dataclass(frozen=True)
class Figures:
    """All pictures of one experiment at one scale."""

    experiment: str
    title: str
    scale: str
    table: str | None  # its path below the results
    figures: tuple[Figure, ...]

    @property
    def key(self) -> str:
        """Its anchor: what a forge makes of a heading of two names, which are letters, digits, `_` and `-`."""
        return f"{self.experiment}-{self.scale}".lower()


def _compact(svg: str) -> str:
    rounded = _COORDINATES.sub(lambda found: _BEYOND_A_HUNDREDTH.sub(r"\1", found[0]), svg)
    one_line = re.sub(r"\s*\n\s*", " ", rounded)
    return one_line if "'" in one_line else one_line.replace('"', "'")


def find_figures(experiments: Sequence[Experiment], results: Path, scales: Sequence[str]) -> Iterator[Figures]:
    """Experiment by experiment, those that have any. Raises `InputError` for a file that is no picture."""
    for experiment in experiments:
        for scale in (scale for scale in scales if scale in experiment.scales):
            folder = scale_folder(results, experiment.name, scale)
            # A sweep with overrides has `=` in the names of what was drawn of it.
            paths = [path for path in sorted(folder.glob(f"{experiment.name}*.svg")) if "=" not in path.name]
            table = folder / f"{experiment.name}.md"
            if paths or table.exists():
                yield Figures(
                    experiment.name,
                    experiment.title,
                    scale,
                    _below(table, results) if table.exists() else None,
                    tuple(_figure(path, experiment, scale, results) for path in paths),
                )


def _figure(path: Path, experiment: Experiment, scale: str, results: Path) -> Figure:
    try:
        svg = atomic.read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}: draw it again with `make figures`") from None
    if not re.search(r"<svg[\s>]", svg):
        raise InputError(f"{path}: no SVG picture: draw it again with `make figures`")
    part = path.stem.removeprefix(experiment.name).strip("_").replace("_", " ")
    return Figure(_below(path, results), f"{experiment.title}, scale {scale}{f': {part}' if part else ''}", svg)


def _below(path: Path, results: Path) -> str:
    if not path.resolve().is_relative_to(results.resolve()):
        raise InputError(f"{path}: leads out of {results}")
    return path.relative_to(results).as_posix()
