"""Arguments of the verbs: their types, and the runs and options that they select."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from nfrepro.errors import InputError, did_you_mean
from nfrepro.specs import Run, expand, load_experiment, old_name_notes
from nfrepro.tasks.registry import SCHEMAS

ExperimentName = Annotated[str, typer.Argument(metavar="EXP", help="Name of an experiment, or a path ending in .yaml.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, or the hash at the end of the id.")]
Scale = Annotated[str, typer.Option(help="Budget: smoke, laptop, overnight, gpu or paper, if the experiment has it.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one config key; may be repeated.")
]
Experiments = Annotated[Path, typer.Option(help="Folder with the experiment files.", envvar="NFREPRO_EXPERIMENTS")]
Results = Annotated[Path, typer.Option(help="Folder with the results.", envvar="NFREPRO_RESULTS")]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Runs to execute at once. Default: one per GPU, or else per physical core.")
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="CPU threads per run. Default: an equal share of the cores. Affects the last digits."),
]
ProcessesOfARun = Annotated[
    int, typer.Option("--processes", min=1, help="Local processes to split each run across, with one GPU each if any.")
]
Json = Annotated[bool, typer.Option("--json", help="Output JSON.")]
Model = Annotated[
    str | None, typer.Option(metavar="NAME", help="Network, e.g. nf_resnet50, if the weights file does not name it.")
]
ModelSets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="model.KEY=VALUE", help="Set one option of the network; may be repeated."),
]
CheckpointSeconds = Annotated[
    float, typer.Option(min=0, help="Seconds between checkpoints; each epoch also ends with one.")
]

EXPERIMENTS = Path("experiments")
RESULTS = Path("results")


def expand_runs(name: str, scale: str, overrides: Sequence[str] | None, experiments: Path) -> list[Run]:
    experiment = load_experiment(name, experiments)
    runs = expand(experiment, scale, SCHEMAS, overrides or ())
    for note in old_name_notes(experiment, SCHEMAS[experiment.task], overrides or ()):
        print(f"nfrepro: {note}", file=sys.stderr)
    return runs


def select_run(runs: Sequence[Run], run_id: str) -> Run:
    chosen = [run for run in runs if run.id == run_id or run.id.rpartition("-")[2] == run_id]
    if not chosen:
        raise InputError(
            f"no run {run_id}{did_you_mean(run_id, [run.id for run in runs])} among these {len(runs)} runs"
        )
    return chosen[0]


def model_options(overrides: Sequence[str] | None) -> dict[str, Any]:
    """The options of the network that `model.KEY=VALUE` set, by the rules of experiment files."""
    from nfrepro.specs.layers import read_override
    from nfrepro.specs.reader import plain

    options = {}
    for text in overrides or ():
        key, value = read_override(text)
        if len(key) != 2 or key[0] != "model" or key[1] == "name":
            raise InputError(f"--set {text}: expected model.OPTION=VALUE, for example model.activation=silu")
        options[key[1]] = plain(value)
    return options


def check_results(results: Path) -> None:
    if not results.is_dir():
        raise InputError(f"{results}: no such folder of results: name it by --results DIR or NFREPRO_RESULTS")
