"""The stored figures and tables of experiments: nothing is drawn here."""

import base64
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nfrepro import atomic
from nfrepro.errors import InputError
from nfrepro.runs.store import scale_folder
from nfrepro.specs import Experiment

# The first bytes of a PNG file: its signature, and the start of the chunk that holds its size.
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">8s4x4sII")


@dataclass(frozen=True)
class Figure:
    """One picture."""

    name: str  # of its file, without suffix
    path: str  # below the results
    caption: str
    content: bytes
    width: int  # pixels
    height: int

    @property
    def data_uri(self) -> str:
        """The whole picture as a data URI."""
        return f"data:image/png;base64,{base64.b64encode(self.content).decode('ascii')}"


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
        """The anchor of the figures: letters, digits, `_` and `-`."""
        return f"{self.experiment}-{self.scale}".lower()


def find_figures(experiments: Sequence[Experiment], results: Path, scales: Sequence[str]) -> Iterator[Figures]:
    """The figures of each experiment that has any, by scale. Raises `InputError` for a file that is not a PNG."""
    for experiment in experiments:
        for scale in (scale for scale in scales if scale in experiment.scales):
            folder = scale_folder(results, experiment.name, scale)
            # Figures of a sweep with overrides have `=` in their names.
            paths = [path for path in sorted(folder.glob(f"{experiment.name}*.png")) if "=" not in path.name]
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
    below = _below(path, results)
    try:
        content = atomic.read_bytes(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}: draw it again with `make figures`") from None
    signature, chunk, width, height = _HEAD.unpack(content[: _HEAD.size].ljust(_HEAD.size))
    if (signature, chunk) != (_SIGNATURE, b"IHDR"):
        raise InputError(f"{path}: not a PNG image: draw it again with `make figures`")
    part = path.stem.removeprefix(experiment.name).strip("_").replace("_", " ")
    caption = f"{experiment.title}, scale {scale}{f': {part}' if part else ''}"
    return Figure(path.stem, below, caption, content, width, height)


def _below(path: Path, results: Path) -> str:
    if not path.resolve().is_relative_to(results.resolve()):
        raise InputError(f"{path}: leads out of {results}")
    return path.relative_to(results).as_posix()
