"""Output of `compare`: a table of runs and one of arms."""

from collections.abc import Sequence
from itertools import takewhile

from nfrepro.cli.screen import table_lines, width_here
from nfrepro.runs.comparison import ArmPair, Comparison, Mean, Numbers, RunPair, Side
from nfrepro.runs.final_numbers import headline


def show_comparison(comparison: Comparison) -> None:
    """Prints both tables, each run and arm with its headline: accuracy, or the first number of its task."""
    two = any(pair.there is not None for pair in comparison.runs)
    header = ["here", "there", "difference", "others that differ", "processor here", "there"]
    rows = [_run_row(pair) for pair in comparison.runs]
    _print("run", header if two else ["here", "processor"], rows if two else [[row[0], row[1], row[5]] for row in rows])
    print()
    header = ["here", "n", "there", "n", "difference", "n"]
    rows = [_arm_row(arm) for arm in comparison.arms]
    _print("arm (mean over seeds)", header if two else header[:2], rows if two else [row[:3] for row in rows])
    if two:
        print(verdict(comparison))


def verdict(comparison: Comparison) -> str:
    """A line that counts the runs completed in both, and those of them that agree in every number."""
    both = [pair for pair in comparison.runs if pair.difference]
    same = sum(not any(pair.difference.values()) for pair in both)
    return f"{len(comparison.runs)} runs: {len(both)} completed in both, {same} of them with the same numbers"


def _print(first: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    numbers = takewhile(lambda place: "processor" not in header[place - 1], range(1, len(header) + 1))
    print("\n".join(table_lines([(first, *header), *rows], set(numbers), width_here())))


def _run_row(pair: RunPair) -> list[str]:
    name = headline(pair.here.numbers or (pair.there.numbers if pair.there else {}))
    others = sum(value != 0 for number, value in pair.difference.items() if number != name)
    there = pair.there
    return [
        f"{pair.id}  {pair.varied}".rstrip(),
        _of_side(pair.here, name),
        _of_side(there, name) if there else "",
        _signed(pair.difference, name),
        str(others) if pair.difference else "",
        _place(pair.here),
        _place(there) if there else "",
    ]


def _arm_row(arm: ArmPair) -> list[str]:
    name = headline(arm.here.numbers or (arm.there.numbers if arm.there else {}))
    both = str(arm.n_both) if arm.n_both else ""
    label = f"{arm.name}  {arm.varied}".rstrip()
    return [label, *_of_mean(arm.here, name), *_of_mean(arm.there, name), _signed(arm.difference, name), both]


def _of_side(side: Side, name: str | None) -> str:
    return f"{_short(name)} {side.numbers[name]:.6g}" if name in side.numbers and name else side.state


def _of_mean(mean: Mean | None, name: str | None) -> list[str]:
    if mean is None:
        return ["", ""]
    return [f"{_short(name)} {mean.numbers[name]:.6g}" if name and name in mean.numbers else "", str(mean.n)]


def _signed(difference: Numbers, name: str | None) -> str:
    return f"{difference[name]:+.3g}" if name and name in difference else ""


def _short(name: str | None) -> str:
    return (name or "").removeprefix("test_")


def _place(side: Side) -> str:
    """The processor of a run: `Intel(R) Xeon(R) Processor, 1 thread`, or the name of a GPU."""
    if side.device is not None and not side.device.startswith("cpu"):
        return side.device
    threads = "" if side.threads is None else f", {side.threads} thread{'' if side.threads == 1 else 's'}"
    return f"{side.processor}{threads}" if side.processor else ""
