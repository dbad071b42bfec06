"""Writes the tables of docs/experiments.md: experiments, claims, runs at each scale, and the cost of stored runs."""

from pathlib import Path

from nfrepro import atomic
from nfrepro.report.costs import Costs
from nfrepro.specs import Experiment, expand, find_experiments, load_experiment
from nfrepro.tasks.registry import SCHEMAS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "experiments.md"
BEGIN, END = "<!-- written by docs/experiments.py -->\n", "<!-- end -->\n"
SCALES = ("smoke", "laptop", "overnight", "gpu", "paper")
STORED = ("laptop", "overnight")  # scales whose runs are stored here


def table(experiments: list[Experiment], costs: Costs) -> str:
    """A table with a row for each experiment."""
    head = ["experiment", "question", "claims"]
    head += [f"runs, {scale}" for scale in SCALES] + [f"cost, {scale}" for scale in STORED]
    rows = [head, ["---"] * len(head), *(row(experiment, costs) for experiment in experiments)]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in rows)


def row(experiment: Experiment, costs: Costs) -> list[str]:
    link = f"[{experiment.name}](../experiments/{experiment.name}.yaml)"
    runs = [str(len(expand(experiment, scale, SCHEMAS))) if scale in experiment.scales else "" for scale in SCALES]
    measured = [costs.text([experiment.name], scale) for scale in STORED]
    return [link, experiment.title, ", ".join(experiment.claims), *runs, *measured]


def total(costs: Costs) -> str:
    """The cost of all stored runs, each counted once."""
    stored = costs.stored()
    spent = " and ".join(f"{stored[scale]} at scale `{scale}`" for scale in STORED)
    where = "Costs were measured on the processors that `run.json` names."
    return f"\n{where} All stored runs, each counted once: {spent}.\n"


def page() -> str:
    """The page with its table made from the current files and results."""
    before, rest = PAGE.read_text().split(BEGIN)
    experiments = [load_experiment(path.stem, ROOT / "experiments") for path in find_experiments(ROOT / "experiments")]
    costs = Costs(ROOT / "results")
    return before + BEGIN + table(experiments, costs) + total(costs) + END + rest.split(END)[1]


if __name__ == "__main__":
    atomic.write_text(PAGE, page())
