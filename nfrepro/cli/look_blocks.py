"""Output of `settle`: the looks that are due, their cost, and what they can still decide."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nfrepro.claims.looks import DueLook
from nfrepro.cli.screen import table_lines
from nfrepro.runs import store
from nfrepro.specs import Run
from nfrepro.stats.power import power_of_mean_test

# Differences, in standard deviations over seeds, for which the power of a look is shown.
DIFFERENCES = (1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Block:
    """Looks that are taken together, after the runs that they need."""

    name: str
    looks: tuple[DueLook, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs of the next looks, each once even if several claims need it."""
        return tuple({run.id: run for look in self.looks for run in look.runs}.values())

    @property
    def at_most(self) -> tuple[Run, ...]:
        """The runs of all looks up to the last, each once."""
        return tuple({run.id: run for look in self.looks for run in look.at_most}.values())


def in_blocks(looks: Sequence[DueLook], blocks: Mapping[str, Sequence[str]], scale: str) -> list[Block]:
    """The looks by block, in order: a claim about experiments of several blocks belongs to the last of them.

    Looks at experiments of no block come at the end.
    """
    place = {experiment: index for index, of in enumerate(blocks.values()) for experiment in of}
    names = [*blocks, "others"]

    def index(look: DueLook) -> int:
        return max(place.get(test.form.experiment, len(blocks)) for test in look.claim.tests_at(scale))

    found: dict[int, list[DueLook]] = {}
    for look in looks:
        found.setdefault(index(look), []).append(look)
    return [Block(names[at], tuple(found[at])) for at in sorted(found)]


def is_done(run: Run, results: Path) -> bool:
    """Whether the result of a run is stored."""
    return store.read(store.run_folder(results, run), run).state in store.DONE


def left_of(runs: Sequence[Run], results: Path) -> list[Run]:
    """The runs that are not done."""
    return [run for run in runs if not is_done(run, results)]


def block_lines(block: Block, results: Path, hours: Mapping[str, float]) -> Iterator[str]:
    """A table of a block's looks: what each needs, and the power of the last one. `hours` has those of each run."""
    left = {run.id for run in left_of(block.runs, results)}
    most = {run.id for run in left_of(block.at_most, results)}
    yield f"{block.name}: {len(left)} of {len(block.runs)} runs left{_cost(left, hours)}; {_most(most, hours)}"
    powers = [f"power at {d:g} sd" for d in DIFFERENCES]
    rows = [("claim", "look at n", "runs left", "p below", "last look", "p below", *powers, "statement")]
    for look in block.looks:
        planned, runs = look.verdict.evidence.planned, sum(run.id in left for run in look.runs)
        last, n = (str(planned[-1]), planned[-1]) if planned else ("", 0)
        power = [f"{power_of_mean_test(d, 1.0, n, look.last_level, arms=2):.2f}" if n else "" for d in DIFFERENCES]
        levels = (f"{look.level:.1g}", last, f"{look.last_level:.1g}")
        rows.append((look.claim.id, str(look.n or "all"), str(runs), *levels, *power, look.claim.form.statement))
    yield from table_lines(rows, range(1, len(rows[0]) - 1))


def total_line(blocks: Sequence[Block], results: Path, hours: Mapping[str, float]) -> str:
    """A line on everything that is due."""
    left, most = (
        {run.id for run in left_of(list({run.id: run for of in runs for run in of}.values()), results)}
        for runs in ([block.runs for block in blocks], [block.at_most for block in blocks])
    )
    claims = sum(len(block.looks) for block in blocks)
    open_ones = f"{claims} claim{' is' if claims == 1 else 's are'} open"
    return f"{open_ones}; next looks: {len(left)} runs{_cost(left, hours)}; {_most(most, hours)}"


def _most(left: set[str], hours: Mapping[str, float]) -> str:
    return f"to the last looks at most {len(left)}{_cost(left, hours)}"


def _cost(left: set[str], hours: Mapping[str, float]) -> str:
    known = [hours[name] for name in left if name in hours]
    if not known:
        return ""
    unknown = len(left) - len(known)
    return f", about {sum(known):.1f} core-hours{f' and {unknown} runs of unknown cost' if unknown else ''}"
