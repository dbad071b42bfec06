"""Verbs about experiment files: list, expand."""

from nfrepro.cli.arguments import EXPERIMENTS, ExperimentName, Experiments, Json, Scale, Sets, expand_runs
from nfrepro.cli.output import print_json, print_lines
from nfrepro.specs import Experiment, expand, find_experiments, load_experiment
from nfrepro.specs.varied import varied_keys, varied_options
from nfrepro.tasks.registry import SCHEMAS


def list_experiments(experiments: Experiments = EXPERIMENTS, as_json: Json = False) -> None:
    """List the experiments, their scales and the claims they test."""
    found = [load_experiment(path.stem, experiments) for path in find_experiments(experiments)]
    if as_json:
        print_json(
            [
                {"name": e.name, "title": e.title, "claims": e.claims, "scales": e.scales, "varies": _varied(e)}
                for e in found
            ]
        )
        return
    from nfrepro.cli.screen import table_lines, width_here

    rows = [(e.name, e.title, *(", ".join(words) for words in (e.claims, e.scales, _varied(e)))) for e in found]
    print_lines(table_lines([("experiment", "title", "claims", "scales", "varies"), *rows], width=width_here()))


def _varied(experiment: Experiment) -> list[str]:
    """The options other than the seed in which its runs differ at its smallest scale."""
    return varied_keys(expand(experiment, experiment.scales[0], SCHEMAS)) if experiment.scales else []


def expand_experiment(
    name: ExperimentName,
    scale: Scale = "laptop",
    overrides: Sets = None,
    experiments: Experiments = EXPERIMENTS,
    as_json: Json = False,
) -> None:
    """List the runs of an experiment at a scale. Starts nothing.

    Shows the id of each run and the options that tell it apart from others; --json shows full configs instead.
    """
    runs = expand_runs(name, scale, overrides, experiments)
    if as_json:
        print_json(
            [
                {"id": r.id, "experiment": r.experiment, "scale": r.scale, "task": r.task, "config": r.config}
                for r in runs
            ]
        )
        return
    varied = varied_options(runs)
    for run in runs:
        print(f"{run.id}  {varied[run.id]}".rstrip())
