"""Writes the tables of docs/experiments.md: experiments, claims, runs at each scale, and what stored runs have cost."""

import json
from datetime import datetime
from pathlib import Path

from nfrepro import atomic
from nfrepro.specs import Experiment, expand, find_experiments, load_experiment
from nfrepro.tasks.registry import SCHEMAS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "experiments.md"
BEGIN, END = "<!-- written by docs/experiments.py -->\n", "<!-- end -->\n"
SCALES = ("smoke", "laptop", "overnight", "gpu", "paper")


def table(experiments: list[Experiment]) -> str:
    """A row an experiment."""
    head = ["experiment", "question", "claims", *(f"runs, {scale}" for scale in SCALES), "laptop, minutes of one core"]
    rows = [head, ["---"] * len(head), *(row(experiment) for experiment in experiments)]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in rows)


def row(experiment: Experiment) -> list[str]:
    link = f"[{experiment.name}](../experiments/{experiment.name}.yaml)"
    runs = [str(len(expand(experiment, scale, SCHEMAS))) if scale in experiment.scales else "" for scale in SCALES]
    return [link, experiment.title, ", ".join(experiment.claims), *runs, cost(experiment.name)]


def cost(experiment: str) -> str:
    """Minutes from the start of each stored laptop run to its end, added up; empty where there are none."""
    records = [json.loads(path.read_text()) for path in map(record_path, run_ids(experiment)) if path.exists()]
    seconds = sum(
        (datetime.fromisoformat(record["finished"]) - datetime.fromisoformat(record["started"])).total_seconds()
        for record in records
        if record["finished"]
    )
    return f"{seconds / 60:.0f}" if records else ""


def run_ids(experiment: str) -> list[str]:
    """The runs of the laptop scale; none where there is no such scale."""
    found = load_experiment(experiment, ROOT / "experiments")
    return [run.id for run in expand(found, "laptop", SCHEMAS)] if "laptop" in found.scales else []


def record_path(run_id: str) -> Path:
    return ROOT / "results" / "runs" / run_id / "run.json"


def page() -> str:
    """The page with its table as the files and results are now."""
    before, rest = PAGE.read_text().split(BEGIN)
    experiments = [load_experiment(path.stem, ROOT / "experiments") for path in find_experiments(ROOT / "experiments")]
    return before + BEGIN + table(experiments) + END + rest.split(END)[1]


if __name__ == "__main__":
    atomic.write_text(PAGE, page())
