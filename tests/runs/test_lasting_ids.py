"""Ids that last: an option that is added later, and left at its default, orphans no stored result."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError, create_model

from nfrepro.options import Options, TaskOptions, added
from nfrepro.runs import store
from nfrepro.specs import Run
from nfrepro.specs.identity import resolve
from nfrepro.tasks.registry import SCHEMAS

REVISED = ("fixup_resnet", "skipinit_resnet")


def is_of_a_network_as_it_was(path: Path) -> bool:
    """Whether a stored run is of a network that was mended since: its config stands for another network now."""
    model = json.loads(path.read_text())["config"].get("model", {})
    return model.get("name") in REVISED and "revision" not in model


STORED = sorted((Path(__file__).parents[2] / "results" / "runs").glob("*/run.json"))
RECORDS = [path for path in STORED if not is_of_a_network_as_it_was(path)]


@cache
def grown(schema: type[Options]) -> type[Options]:
    """A copy of `schema` with one more option, `later`, in it and in every options class that is a field's type."""
    fields: dict[str, Any] = {"later": (int, added(7, ge=0))}
    for name, field in schema.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Options):
            inner = grown(field.annotation)
            fields[name] = (inner, ... if field.is_required() else inner.model_validate(field.default.model_dump()))
    return create_model(f"Grown{schema.__name__}", __base__=schema, **fields)


def run_of(options: Options, task: str) -> Run:
    assert isinstance(options, TaskOptions)
    found = resolve(options, task)
    return Run(found.id, "experiment", "scale", task, found.config, found.outside_id, found.old_names)


def test_every_stored_run_keeps_its_id_when_options_are_added() -> None:
    assert len(RECORDS) > 300
    for path in RECORDS:
        record = json.loads(path.read_text())
        config = store.run_of(record).id_config
        run = run_of(grown(SCHEMAS[record["task"]]).model_validate(config), record["task"])
        assert run.id == record["id"] == path.parent.name
        assert run.config["later"] == 7
        assert "later" in run.outside_id


def test_another_value_of_an_added_option_is_another_run() -> None:
    record = next(found for found in map(json.loads, map(Path.read_text, RECORDS)) if found["task"] == "train")
    schema = grown(SCHEMAS["train"])
    ids = {record["id"]}
    for change in ({"later": 8}, {"train": record["config"]["train"] | {"later": 8}}):
        run = run_of(schema.model_validate(record["config"] | change), "train")
        assert "later" not in run.outside_id or "train.later" not in run.outside_id
        ids.add(run.id)
    assert len(ids) == 3
    with pytest.raises(ValidationError):
        schema.model_validate(record["config"] | {"later": -1})


def test_a_record_from_before_and_one_from_after_are_of_the_same_run(tmp_path: Path) -> None:
    before = json.loads(RECORDS[0].read_text())
    before.pop("seal", None)  # of files that are not copied
    run = run_of(grown(SCHEMAS[before["task"]]).model_validate(before["config"]), before["task"])
    after = before | {"config": run.config, "outside_id": list(run.outside_id), "old_names": run.old_names}
    for record in (before, after):
        folder = tmp_path / run.id
        folder.mkdir(exist_ok=True)
        store.write_record(folder, record)
        store.check_config(folder, run)
        assert store.read(folder).state == before["status"]


def test_a_run_is_the_same_after_a_way_through_json() -> None:
    run = Run("label-0", "e", "s", "train", {"a": {"b": 1, "c": [2]}}, ("a.b", "not.there"))
    assert Run(**json.loads(json.dumps(vars(run)))) == run
    assert run.id_config == {"a": {"c": [2]}}
    assert run.config == {"a": {"b": 1, "c": [2]}}
