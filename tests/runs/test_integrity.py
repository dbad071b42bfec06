"""What a stored result is checked for: edits of its numbers, of its files, of anything in its record."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_experiment import Call

from nfrepro.errors import InputError
from nfrepro.runs import store
from nfrepro.runs.integrity import seal
from nfrepro.runs.lock import hold_lock
from nfrepro.runs.tidying import tidy
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

LAST = {"epoch": 2, "train_loss": 0.5, "test_top1": 80.0, "test_loss": 0.7}
FINAL = {"top1": 80.0, "test_top1": 80.0, "test_loss": 0.7, "steps": 12, "diverged_at_step": None, "weights": "ab"}


@pytest.fixture
def run(experiments: Path) -> Run:
    return expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)[0]


def stored(results: Path, run: Run, sealed: bool = True, **changes: Any) -> Path:
    folder = store.run_folder(results, run)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 1}) + "\n" + json.dumps(LAST) + "\n")
    (folder / "propagation.csv").write_text("block,avg_var\n1,1.0\n")
    record = store.description_of(run) | {"status": "completed", "final": FINAL, "error": None, "provenance": {}}
    record |= changes
    store.write_record(folder, seal(folder, record) if sealed else record)
    return folder


@pytest.mark.parametrize("sealed", [True, False])
def test_a_result_as_written_is_done(results: Path, run: Run, sealed: bool) -> None:
    folder = stored(results, run, sealed)
    for passing in ("checkpoint-000000001-0123456789abcdef.pt", "progress.json", ".gitignore", "cancel-tiny-smoke"):
        (folder / passing).write_text("x")
    assert store.read(folder).state == "completed"


@pytest.mark.parametrize(
    ("final", "message"),
    [
        ("x", "final: expected a mapping, found 'x'"),
        (None, "final: expected a mapping, found None"),
        ({"top1": 99.99, "test_top1": 80.0}, r"final.top1 is 99.99, but 80.0 in the last row of metrics.jsonl"),
        ({"test_loss": 0.1}, r"final.test_loss is 0.1, but 0.7 in the last row of metrics.jsonl"),
        ({"top1": 180.0}, "final.top1: 180 is not a percentage"),
        ({"best_top5": -1}, "final.best_top5: -1 is not a percentage"),
        ({"id": 3}, "final.id: runs.csv has another column of this name"),
        ({"model.alpha": 3}, "final.model.alpha: runs.csv has another column"),
        ({"a": [1]}, "final.a: expected a number, text or null"),
    ],
)
def test_numbers_that_no_run_can_have_are_named_by_file(results: Path, run: Run, final: Any, message: str) -> None:
    folder = stored(results, run, sealed=False, final=final)
    with pytest.raises(InputError, match=rf"{run.id}/run\.json: {message}.*redo the run with --force"):
        store.read(folder)


@pytest.mark.parametrize("name", ["metrics.jsonl", "propagation.csv"])
@pytest.mark.parametrize("change", ["edited", "removed"])
def test_a_file_that_changed_is_named(results: Path, run: Run, name: str, change: str) -> None:
    folder = stored(results, run)
    path = folder / name
    if change == "edited":
        path.write_text(path.read_text().replace("1", "2", 1))
    else:
        path.unlink()
    with pytest.raises(InputError, match=rf"{name}: (it was changed after the run|cannot be read).*redo the run"):
        store.read(folder)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [leaf for key, item in items for leaf in leaves(item, (*path, key))]
    return below or [path]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_edit_of_a_sealed_record_is_noticed(results: Path, run: Run, data: st.DataObject) -> None:
    folder = stored(results, run)
    record = json.loads((folder / "run.json").read_text())
    *outer, last = data.draw(st.sampled_from([leaf for leaf in leaves(record) if leaf]))
    level: Any = record
    for key in outer:
        level = level[key]
    other = data.draw(st.one_of(st.integers(0, 50), st.text(max_size=5), st.none(), st.booleans()))
    unchanged = json.dumps(level[last]) == json.dumps(other)
    level[last] = other
    (folder / "run.json").write_text(json.dumps(record))
    if unchanged:
        assert store.read(folder).state == "completed"
        return
    if (last, outer) == ("status", []):
        with contextlib.suppress(InputError):
            assert store.read(folder).state not in store.DONE
        return
    with pytest.raises(InputError, match=r"(run\.json|propagation\.csv|metrics\.jsonl): ") as caught:
        store.read(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("verb", ["status", "sweep", "collect", "plan"])
def test_no_verb_takes_numbers_written_by_hand(nfrepro: Call, results: Path, run: Run, verb: str) -> None:
    stored(results, run, sealed=False, final={"top1": 99.99, "test_top1": 80.0})
    called = nfrepro(verb, "tiny", "--scale", "smoke")
    assert called.returncode == 2, called.stdout
    assert "Traceback" not in called.stderr
    assert "final.top1 is 99.99, but 80.0 in the last row of metrics.jsonl" in called.stderr.splitlines()[-1]


def test_what_a_killed_process_left_behind_is_tidied_unless_somebody_is_at_it(results: Path, run: Run) -> None:
    folder = stored(results, run)
    before = {path.name for path in folder.iterdir()}
    left = ["checkpoint-000000001-0123456789abcdef.pt", "progress.json", ".run.json.x.tmp", ".moments.csv"]
    left += [".claim.x.tmp", ".claim.x.old", "error.txt", "cancel-tiny-smoke"]
    for name in left:
        (folder / name).write_text("x")
    with hold_lock(folder):
        tidy(folder)
        assert {path.name for path in folder.iterdir()} >= set(left)
    tidy(folder)
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.slow
def test_a_run_seals_its_result_and_a_sweep_tidies(nfrepro: Call, results: Path, run: Run) -> None:
    assert nfrepro("sweep", "tiny", "--scale", "smoke", "--jobs", "1").returncode == 0
    folder = store.run_folder(results, run)
    record = store.read_record(folder)
    assert record is not None
    assert set(record["seal"]["files"]) == {"metrics.jsonl"}
    (folder / "checkpoint-000000001-0123456789abcdef.pt").write_text("x")
    assert nfrepro("sweep", "tiny", "--scale", "smoke").returncode == 0
    assert not list(folder.glob("checkpoint-*"))


def test_a_name_that_is_not_utf_8_is_stored_escaped(tmp_path: Path) -> None:
    path = store.write_error(tmp_path, "no such file: a\udcffb\n")
    assert path.read_bytes() == b"no such file: a\\udcffb\n"
