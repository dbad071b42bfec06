"""The experiments that ship: all their scales expand, and at smoke each runs to a table and a figure."""

from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import torch
from in_this_process import nfrepro_here, script_here

from nfrepro.models.options import ModelOptions
from nfrepro.models.registry import build
from nfrepro.specs import Experiment, expand, find_experiments, load_experiment
from nfrepro.tasks.options import TrainTask
from nfrepro.tasks.registry import SCHEMAS
from nfrepro.tasks.work import count_work

ROOT = Path(__file__).parents[1]
FILES = find_experiments(ROOT / "experiments")
EXPERIMENTS = [load_experiment(path.stem, ROOT / "experiments") for path in FILES]
TRAINING = [experiment for experiment in EXPERIMENTS if experiment.task == "train"]
# What watches training or the regime itself is not of the paper.
THE_PAPERS = [e for e in TRAINING if e.name not in ("signal_in_training", "why_normalization", "pilot")]
NAMES = [experiment.name for experiment in EXPERIMENTS if experiment.task in ("train", "smoothness")]


@pytest.mark.parametrize("experiment", THE_PAPERS, ids=lambda experiment: experiment.name)
def test_every_experiment_of_the_paper_has_four_scales(experiment: Experiment) -> None:
    assert set(experiment.scales) - {"overnight"} == {"smoke", "laptop", "gpu", "paper"}
    for scale in experiment.scales:
        assert expand(experiment, scale, SCHEMAS)


@pytest.mark.parametrize("experiment", THE_PAPERS, ids=lambda experiment: experiment.name)
def test_paper_scale_is_the_authors_recipe_on_imagenet(experiment: Experiment) -> None:
    for run in expand(experiment, "paper", SCHEMAS):
        data, train, model = (run.config[key] for key in ("data", "train", "model"))
        assert (data["name"], data["crop"]) == ("imagenet", "inception")
        assert model["width"] == 1.0
        assert (train["momentum"], train["label_smoothing"], train["precision"]) == (0.9, 0.1, "float32")
        regnet = experiment.name in ("group_width", "figure_3")
        assert (train["epochs"], train["warmup_epochs"]) == ((360, 5) if regnet else (90, 5))
        # No device sees more than 128 images of a batch, nor BatchNorm fewer where the batch is large.
        assert train["batch_size"] / train["grad_accum_steps"] == min(128, train["batch_size"])


@pytest.mark.parametrize("experiment", THE_PAPERS, ids=lambda experiment: experiment.name)
@pytest.mark.parametrize("scale", ["laptop", "gpu", "paper"])
def test_a_scale_gives_every_arm_the_same_budget(experiment: Experiment, scale: str) -> None:
    """Arms differ in what the experiment is about, never in pictures or epochs; each has the same seeds."""
    runs = expand(experiment, scale, SCHEMAS)
    budgets = {(run.config["data"].get("train_images"), run.config["train"]["epochs"]) for run in runs}
    assert len(budgets) == 1
    seeds = {run.config["seed"] for run in runs}
    assert len(runs) % len(seeds) == 0
    for seed in seeds:
        assert sum(run.config["seed"] == seed for run in runs) == len(runs) // len(seeds)


@cache
def make_without_data(options: ModelOptions) -> None:
    """Experiments share many networks: each is made once."""
    with torch.device("meta"):
        assert build(options, num_classes=10, in_channels=3)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", TRAINING, ids=lambda experiment: experiment.name)
def test_every_network_of_every_scale_can_be_made(experiment: Experiment) -> None:
    """At laptop it also takes its images, as far as shapes go. Smoke is all that these tests train."""
    tasks = [
        (scale, TrainTask.model_validate(run.config))
        for scale in experiment.scales
        for run in expand(experiment, scale, SCHEMAS)
    ]
    for model in {task.model for _, task in tasks}:
        make_without_data(model)
    for scale, task in tasks:
        if scale == "laptop":
            assert count_work(task).test_multiply_adds > 0


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results. Experiments share many runs: each is trained once by a process of tests."""
    return tmp_path_factory.mktemp("smoke")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_smoke_runs_to_a_table_and_a_figure(name: str, smoke: Path) -> None:
    where = ("--scale", "smoke", "--results", str(smoke))
    swept = nfrepro_here("sweep", name, *where, "--executor", "debug", "--threads", "1")
    assert swept.returncode == 0, swept.stderr
    table = pd.read_csv(smoke / name / "smoke" / "runs.csv")
    assert set(table["state"]) <= {"completed", "diverged"}
    drawn = script_here(name, *where)
    assert drawn.returncode == 0, drawn.stderr
    assert list((smoke / name / "smoke").glob(f"{name}*.png"))
