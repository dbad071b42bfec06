"""What tells runs of one name apart: the arms of experiments that ship, and made-up ones."""

from pathlib import Path

import pytest

from nfrepro.specs import Run, expand, find_experiments, load_experiment
from nfrepro.specs.varied import varied_keys, varied_options
from nfrepro.tasks.registry import SCHEMAS

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NAMES = [path.stem for path in find_experiments(EXPERIMENTS)]


def runs(name: str, scale: str) -> list[Run]:
    return expand(load_experiment(name, EXPERIMENTS), scale, SCHEMAS)


def test_the_arms_of_bn_order_say_their_order() -> None:
    found = runs("bn_order", "laptop")
    shown = varied_options(found)
    orders = {run.config["model"]["order"] for run in found if run.config["model"]["name"] == "bn_resnet"}
    assert {shown[run.id] for run in found if run.config["model"]["name"] == "bn_resnet"} == {
        f"model.order={order}" for order in orders
    }
    assert len(orders) == 3
    assert {shown[run.id] for run in found if run.config["model"]["name"] == "nf_resnet"} == {""}


@pytest.mark.parametrize("name", NAMES)
def test_no_two_runs_of_an_experiment_look_alike_without_their_hash(name: str) -> None:
    for scale in load_experiment(name, EXPERIMENTS).scales:
        found = runs(name, scale)
        shown = varied_options(found)
        looks = {(run.id.rpartition("-")[0], shown[run.id]) for run in found}
        assert len(looks) == len(found)


def run(name: str, **config: object) -> Run:
    return Run(name, "e", "s", "t", dict(config))


def test_names_that_tell_runs_apart_get_nothing() -> None:
    assert varied_options([run("a-seed0-12ab", seed=0), run("a-seed1-34cd", seed=1)]) == {
        "a-seed0-12ab": "",
        "a-seed1-34cd": "",
    }


def test_a_missing_key_and_a_list_are_differences() -> None:
    shown = varied_options([run("a-1", m={"x": None}), run("a-2", m={"x": [1, 2], "y": "z"}), run("b-3", m={"x": 5})])
    assert shown == {"a-1": "m.x=null", "a-2": "m.x=[1,2] m.y=z", "b-3": "m.x=5"}


def test_keys_of_an_experiment() -> None:
    assert varied_keys([run("a-1", seed=0, x=1), run("a-2", seed=1, x=2, y=3), run("b-1", seed=0, x=1)]) == ["x"]
    assert varied_keys([]) == []
