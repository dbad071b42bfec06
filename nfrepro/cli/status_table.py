"""The states of runs as a text table, one line per run. Columns that are empty throughout are left out."""

from collections.abc import Callable, Sequence

from nfrepro.cli.screen import table_lines
from nfrepro.runs.status import Row
from nfrepro.terminal import one_line

SEPARATOR = "  "
WANTED_OF_A_NAME = 32  # a column is dropped before names get shorter than this
SHORTEST_NAME = 16
# Left out first if the terminal is too narrow for all.
LEAST_WANTED = ("rate", "requeues", "host")


def table(rows: Sequence[Row], width: int | None = None) -> list[str]:
    """A header, and a line for each of `rows`; within `width` characters, if one is given.

    If ids do not fit, the words that all of them share are removed; the hash at the end, which every command accepts
    for the whole id, stays.
    """
    columns = {name: [one_line(cell(row)) for row in rows] for name, cell in COLUMNS.items()}
    columns = {name: cells for name, cells in columns.items() if name in ("run", "state") or any(cells)}
    if width is not None and _width(columns) > width:
        columns["run"] = _without_common_words(columns["run"])
        for name in LEAST_WANTED:
            others = _width({**columns, "run": []}) - len("run")
            if others + min(WANTED_OF_A_NAME, _longest("run", columns["run"])) > width:
                columns.pop(name, None)
        room = width - _width({**columns, "run": []}) + len("run")
        columns["run"] = [_shortened(name, max(SHORTEST_NAME, room)) for name in columns["run"]]
    right = {place for place, name in enumerate(columns) if name in TO_THE_RIGHT}
    lines = table_lines([tuple(columns), *zip(*columns.values(), strict=True)], right)
    return [line[:width].rstrip() for line in lines]


def numbers(row: Row) -> str:
    """The numbers of a run that follow its id and state: `340/1000  top1 81.20 %  12.3/s  1:02 left`."""
    left = _left(row)
    cells = [_step(row), _metric(row), _rate(row), f"{left} left" if left else ""]
    return SEPARATOR.join(cell for cell in cells if cell)


def duration(seconds: float | None) -> str:
    """The time as `1:02:03` or `2:03`; `-:--` if unknown."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _step(row: Row) -> str:
    """Steps done and in all; if the run has not reported them, the epoch of its latest evaluation."""
    if row.step is None:
        return f"epoch {row.metrics['epoch']}" if row.metrics and "epoch" in row.metrics else ""
    return f"{row.step}/{row.steps}" if row.steps is not None else str(row.step)


def _metric(row: Row) -> str:
    if row.headline is None:
        return ""
    name, value = row.headline
    return f"{name} {value:.2f} %" if name == "top1" else f"{name} {value:.4g}"


def _rate(row: Row) -> str:
    return "" if row.rate is None else f"{row.rate:.3g}/s"


def _left(row: Row) -> str:
    return "" if row.seconds_left is None else duration(row.seconds_left)


COLUMNS: dict[str, Callable[[Row], str]] = {
    "run": lambda row: row.id,
    "varies": lambda row: row.varied,
    "state": lambda row: row.state,
    "host": lambda row: row.host or "",
    "step": _step,
    "metric": _metric,
    "rate": _rate,
    "left": _left,
    "requeues": lambda row: str(row.requeues) if row.requeues else "",
}
TO_THE_RIGHT = {"step", "rate", "left", "requeues"}
Columns = dict[str, list[str]]


def _longest(name: str, cells: Sequence[str]) -> int:
    return max([len(name), *map(len, cells)])


def _width(columns: Columns) -> int:
    return sum(_longest(name, cells) + len(SEPARATOR) for name, cells in columns.items()) - len(SEPARATOR)


def _without_common_words(ids: Sequence[str]) -> list[str]:
    words = [name.split("-") for name in ids]
    common = set(words[0]).intersection(*words[1:]) if len(ids) > 1 else set()
    return ["-".join(word for word in name if word not in common) for name in words]


def _shortened(name: str, width: int) -> str:
    if len(name) <= width:
        return name
    tail = name.rpartition("-")[2][-(width - 1) :]
    return f"{name[: width - 1 - len(tail)]}…{tail}"
