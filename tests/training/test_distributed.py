"""One run by two processes: the same as by one, up to rounding; the same bits when stopped and continued."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pair
import pytest
import torch
from newest_checkpoint import load_newest
from test_loop import execute_on, metrics, task, without_times

from nfrepro.errors import InputError
from nfrepro.models import create
from nfrepro.tasks.options import ProbeSchedule, TrainTask
from nfrepro.tasks.watched_training import run
from nfrepro.training.context import Interrupted, RunContext
from nfrepro.training.distributed import ALONE, Processes, init_processes
from nfrepro.training.options import TrainOptions
from nfrepro.training.step import check_division

pytestmark = pytest.mark.slow

REGULARISED = {"name": "nf_resnet", "dropout": 0.3, "stochastic_depth": 0.3, "skipinit_gain": 1.0}
EVERYTHING = {"clip_factor": 0.05, "ema_decay": 0.9, "weight_decay": 1e-3, "epochs": 6}


@pytest.fixture(scope="module")
def two() -> Iterator[pair.Pair]:
    processes = pair.Pair()
    yield processes
    processes.close()


def alone(options: TrainTask, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    torch.set_num_threads(1)
    return run(options, RunContext(folder, "cpu")).final


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Those that training in `folder` ended with; the average too."""
    state = load_newest(folder, pytest.fail)
    assert state is not None
    average = state["ema"] or {}
    return state["model"] | {f"average of {name}": value for name, value in average.items()}


def assert_close(folder: Path, other: Path, rtol: float) -> None:
    for (name, mine), theirs in zip(weights(folder).items(), weights(other).values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=rtol, atol=rtol, msg=lambda text, name=name: f"{name}: {text}")
    for mine, theirs in zip(metrics(folder), metrics(other), strict=True):
        assert mine == pytest.approx(theirs, rel=rtol)


@pytest.mark.parametrize("grad_accum_steps", [1, 4, 8])
def test_without_batch_norm_two_train_as_one(two: pair.Pair, tmp_path: Path, grad_accum_steps: int) -> None:
    options = task(train={**EVERYTHING, "grad_accum_steps": grad_accum_steps})
    single = alone(options, tmp_path / "one")
    first, second = two(pair.train, options, tmp_path / "two")
    assert_close(tmp_path / "two", tmp_path / "one", rtol=1e-4)
    assert without_times(first) == without_times(second)
    assert first["top1"] == single["top1"]
    assert single["steps"] == 24


def test_parts_may_be_divided_where_statistics_do_not_matter(two: pair.Pair, tmp_path: Path) -> None:
    options = task(train={"batch_size": 12, "grad_accum_steps": 3})  # each process has one part and a half
    alone(options, tmp_path / "one")
    two(pair.train, options, tmp_path / "two")
    assert_close(tmp_path / "two", tmp_path / "one", rtol=1e-4)


@pytest.mark.parametrize("model", [REGULARISED, {"name": "bn_resnet"}], ids=["dropout", "batch_norm"])
def test_micro_batches_are_the_same_whoever_has_them(two: pair.Pair, tmp_path: Path, model: dict[str, Any]) -> None:
    model = {"blocks": [1, 1], "width": 0.0625, "stem": "small", **model}
    options = task(model=model, train={**EVERYTHING, "grad_accum_steps": 2})
    alone(options, tmp_path / "one")
    two(pair.train, options, tmp_path / "two")
    assert_close(tmp_path / "two", tmp_path / "one", rtol=1e-4)


@pytest.mark.parametrize("stop_at", [1, 6, 11])
def test_stopped_and_continued_they_end_with_the_same_bits(two: pair.Pair, tmp_path: Path, stop_at: int) -> None:
    options = task(model=REGULARISED, train={"ema_decay": 0.9, "epochs": 3, "grad_accum_steps": 2})
    undisturbed = two(pair.train, options, tmp_path / "undisturbed")
    assert two(pair.train, options, tmp_path / "run", stop_at) == [None, None]
    (stopped_after,) = {saved["step"] for saved in [load_newest(tmp_path / "run", pytest.fail)] if saved}
    assert stopped_after == stop_at
    resumed = two(pair.train, options, tmp_path / "run")
    assert [without_times(final) for final in resumed] == [without_times(final) for final in undisturbed]
    assert metrics(tmp_path / "run") == metrics(tmp_path / "undisturbed")


def test_one_continues_what_two_began(two: pair.Pair, tmp_path: Path) -> None:
    options = task(train=EVERYTHING)
    alone(options, tmp_path / "one")
    assert two(pair.train, options, tmp_path / "run", 10) == [None, None]
    assert execute_on("cpu", options, tmp_path / "run", checkpoint_seconds=0.0).final["steps"] == 24
    for mine, theirs in zip(metrics(tmp_path / "run"), metrics(tmp_path / "one"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)


def test_two_continue_what_one_began(two: pair.Pair, tmp_path: Path) -> None:
    options = task(train=EVERYTHING)
    alone(options, tmp_path / "one")
    looks = iter(range(100))
    with pytest.raises(Interrupted):
        execute_on("cpu", options, tmp_path / "run", should_stop=lambda: next(looks) >= 9)
    two(pair.train, options, tmp_path / "run")
    assert_close(tmp_path / "run", tmp_path / "one", rtol=1e-4)


def test_both_diverge_at_the_same_step(two: pair.Pair, tmp_path: Path) -> None:
    options = task(train={"lr_per_256": 1e20, "warmup_epochs": 0.0})
    single = alone(options, tmp_path / "one")
    steps = [final["diverged_at_step"] for final in two(pair.train, options, tmp_path / "two")]
    assert steps == [single["diverged_at_step"]] * 2


def test_the_signal_is_measured_once(two: pair.Pair, tmp_path: Path) -> None:
    options = task().model_copy(update={"probe": ProbeSchedule(steps=(0, 5), images=8)})
    alone(options, tmp_path / "one")
    two(pair.train, options, tmp_path / "two")
    tables = [(tmp_path / name / "propagation.csv").read_text().splitlines() for name in ("one", "two")]
    assert len(tables[0]) == len(tables[1])


def exchange(processes: Processes) -> list[Any]:
    messages = processes.kv_store()
    messages.set(f"from {processes.rank}", f"rank {processes.rank}")
    with processes.connected("cpu"):
        tensor = torch.tensor([float(processes.rank)])
        processes.broadcast([tensor])
        return [
            list(processes.share(5)),
            processes.all_reduce_numbers([processes.rank, 2.5]),
            processes.broadcast_bytes(b"first" if processes.rank == 0 else None),
            [processes.broadcast_bytes(None), processes.broadcast_bytes(b"")],
            tensor.item(),
            messages.wait(f"from {1 - processes.rank}"),
        ]


def test_what_they_say_to_one_another(two: pair.Pair) -> None:
    common = [[1.0, 5.0], b"first", [None, b""], 0.0]
    assert two(exchange) == [[[0, 1], *common, "rank 1"], [[2, 3, 4], *common, "rank 0"]]


def test_alone_it_is_all_of_it() -> None:
    with init_processes("cpu") as processes, processes.connected("cpu"):
        assert processes == ALONE
        assert processes.share(5) == range(5)
        assert processes.all_reduce_numbers([1, 2.5]) == [1, 2.5]
        assert processes.broadcast_bytes(b"x") == b"x"


def test_what_does_not_divide_is_refused() -> None:
    normalised, free = (create(name, blocks=[1, 1], width=0.0625) for name in ("bn_resnet", "nf_resnet"))
    with pytest.raises(InputError, match="batch_size: 100 is not a multiple of the 8 processes"):
        check_division(free, TrainOptions(batch_size=100), 8)
    with pytest.raises(InputError, match=r"separately: set train\.grad_accum_steps to a multiple of 8"):
        check_division(normalised, TrainOptions(grad_accum_steps=4), 8)
    check_division(free, TrainOptions(grad_accum_steps=4), 8)
    for drawing in (
        create("nf_resnet", blocks=[1, 1], width=0.0625, dropout=0.1),
        create("nf_resnet", blocks=[1, 1], width=0.0625, stochastic_depth=0.1),
    ):
        with pytest.raises(InputError, match=r"dropout and stochastic depth .* to a multiple of 8"):
            check_division(drawing, TrainOptions(grad_accum_steps=4), 8)
        check_division(drawing, TrainOptions(grad_accum_steps=16), 8)
    check_division(normalised, TrainOptions(grad_accum_steps=16), 8)


def test_variables_that_make_no_sense_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "first")
    refusal = "environment variable RANK: expected a number, found 'first'"
    with pytest.raises(InputError, match=refusal), init_processes("cpu"):
        pass


def test_rows_written_by_two_have_no_row_twice(two: pair.Pair, tmp_path: Path) -> None:
    two(pair.train, task(), tmp_path / "run")
    rows = [json.loads(line)["epoch"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows == [1, 2, 3]
