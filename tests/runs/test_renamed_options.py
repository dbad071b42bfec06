"""Options that were renamed keep the ids of stored runs, and are still taken under their old names."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from test_lasting_ids import RECORDS
from tiny_experiment import Call

from nfrepro.errors import InputError
from nfrepro.runs import store
from nfrepro.specs import expand, load_experiment, old_name_notes
from nfrepro.specs.identity import resolve
from nfrepro.tasks.registry import SCHEMAS

EXPERIMENT = """\
title: Old names
task: train
set:
  data: {{name: synthetic, mixing: {mixing}}}
  model: {{name: bn_resnet, blocks: [1], width: 0.125, stem: small}}
  train: {{epochs: 1, warmup_epochs: 0, batch_size: 16, {lr}: 0.4, {parts}: 2, {decay}: true}}
grid: {{train.weight_decay: [0.1], seed: [0, 1]}}
scales: {{smoke: {{}}}}
"""
OLD = {"mixing": "half", "lr": "lr", "parts": "micro_batches", "decay": "decay_all"}
NEW = {
    "mixing": "mixup_cutmix",
    "lr": "lr_per_256",
    "parts": "grad_accum_steps",
    "decay": "decay_norm_and_bias",
}


def written(folder: Path, names: dict[str, str]) -> Path:
    path = folder / "experiments" / "x.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(EXPERIMENT.format(**names))
    return path


def test_a_record_under_old_names_has_the_id_of_the_run_under_new_ones() -> None:
    named = [json.loads(path.read_text()) for path in RECORDS]
    old = [record for record in named if "lr" in record["config"].get("train", {})]
    assert len(old) > 200
    for record in old:
        found = resolve(SCHEMAS[record["task"]].model_validate(record["config"]), record["task"])
        assert found.id == record["id"]
        assert found.config["train"]["lr_per_256"] == record["config"]["train"]["lr"]
        assert found.old_names["train.lr_per_256"] == "train.lr"


def test_an_experiment_under_old_names_has_the_same_runs(tmp_path: Path) -> None:
    found = []
    for names in (OLD, NEW):
        experiment = load_experiment(str(written(tmp_path, names)), tmp_path)
        found.append(expand(experiment, "smoke", SCHEMAS, ["train.lr=0.8"]))
        notes = old_name_notes(experiment, SCHEMAS["train"], ["train.lr=0.8"])
        assert len(notes) == (4 if names is OLD else 1)
        assert notes[-1] == ("--set train.lr=0.8: train.lr is called train.lr_per_256 now; the old name still works")
    assert found[0] == found[1]
    assert found[0][0].config["train"]["lr_per_256"] == 0.8
    assert found[0][0].config["data"]["mixing"] == "mixup_cutmix"
    ids = found[0][0].id_config
    assert (ids["train"]["lr"], ids["train"]["micro_batches"], ids["train"]["decay_all"]) == (0.8, 2, True)
    assert ids["data"]["mixing"] == "half"
    assert not {"lr_per_256", "grad_accum_steps", "decay_norm_and_bias"} & ids["train"].keys()


def test_an_old_name_narrows_an_axis_under_its_new_name(tmp_path: Path) -> None:
    path = written(tmp_path, NEW)
    path.write_text(path.read_text().replace("grid: {", "grid: {train.lr_per_256: [0.1, 0.2], "))
    runs = expand(load_experiment(str(path), tmp_path), "smoke", SCHEMAS, ["train.lr=[0.2, 0.3]"])
    assert [run.config["train"]["lr_per_256"] for run in runs] == [0.2, 0.2, 0.3, 0.3]


def test_axes_under_both_names_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, NEW)
    path.write_text(path.read_text().replace("grid: {", "grid: {train.lr: [0.1], train.lr_per_256: [0.3], "))
    with pytest.raises(InputError, match=r"train\.lr_per_256"):
        expand(load_experiment(str(path), tmp_path), "smoke", SCHEMAS)


def test_both_names_at_once_are_refused(tmp_path: Path) -> None:
    config = json.loads(next(path for path in RECORDS if '"lr"' in path.read_text()).read_text())["config"]
    config["train"]["lr_per_256"] = 0.1
    with pytest.raises(ValidationError, match="lr is the old name of lr_per_256: give only one of them"):
        SCHEMAS["train"].model_validate(config)
    path = written(tmp_path, NEW)
    path.write_text(path.read_text().replace("lr_per_256: 0.4", "lr_per_256: 0.4, lr: 0.1"))
    with pytest.raises(InputError, match=r"x\.yaml:6: train\.lr_per_256: key given twice"):
        expand(load_experiment(str(path), tmp_path), "smoke", SCHEMAS)


def test_a_new_record_is_found_again(tmp_path: Path) -> None:
    run = expand(load_experiment(str(written(tmp_path, NEW)), tmp_path), "smoke", SCHEMAS)[0]
    folder = tmp_path / run.id
    folder.mkdir()
    record = {
        "id": run.id,
        "task": run.task,
        "config": run.config,
        "outside_id": list(run.outside_id),
        "old_names": run.old_names,
        "status": "completed",
        "final": {},
        "error": None,
    }
    kept = {"experiment": run.experiment, "scale": run.scale, "old_names": run.old_names}
    store.write_record(folder, record | kept | {"outside_id": list(run.outside_id)})
    assert store.read(folder).state == "completed"
    store.check_config(folder, run)
    assert store.run_of(store.read_record(folder) or {}) == run


def test_the_command_line_says_what_to_write(nfrepro: Call, tmp_path: Path) -> None:
    path = written(tmp_path, OLD)
    called = nfrepro("expand", str(path), "--scale", "smoke", "--json")
    assert called.returncode == 0, called.stderr
    assert len(json.loads(called.stdout)) == 2
    assert len(called.stderr.splitlines()) == 3
    assert "x.yaml:6: train.micro_batches is called train.grad_accum_steps now" in called.stderr
