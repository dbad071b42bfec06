"""What a run's id depends on, and what it does not; and what importing the room costs."""

import hashlib
import json
import subprocess
import sys
from itertools import combinations
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nfrepro.specs import SCHEMA_VERSION, config_difference, identity

BASE = {
    "seed": 3,
    "model": {"name": "nf_resnet", "depth": 26, "alpha": 0.5, "blocks": [1, 2], "activation": "silu", "gain": 2.0},
    "train": {
        "lr": 0.25,
        "epochs": 4,
        "batch_size": 8,
        "nesterov": True,
        "decay": 0.125,
        "clipping": {"threshold": 0.5},
    },
    "extra": {"a": 1.0},
}
OTHER = {
    "seed": 4,
    "model.depth": 27,
    "model.alpha": 0.75,
    "model.blocks": [2, 1],
    "model.activation": "relu",
    "model.gain": 3.0,
    "train.lr": 0.3,
    "train.epochs": 5,
    "train.batch_size": 9,
    "train.nesterov": False,
    "train.decay": "auto",
    "train.clipping": None,
    "train.clipping.threshold": 0.25,
    "extra.a": 2.0,
    "extra.b": 2.0,
}


def leaves(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


@pytest.fixture
def one_id(runs):
    def expand_document(document: dict[str, Any], *overrides: str) -> str:
        (run,) = runs(yaml.safe_dump({"task": "train", "scales": {"full": {}}} | document, sort_keys=False), *overrides)
        return run.id

    return expand_document


SHARED = settings(database=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_the_identity_is_a_hash_of_the_canonical_text():
    config = {"b": [1.0, None, True], "a": {"ä": "ü"}}
    text = r'{"config":{"a":{"\u00e4":"\u00fc"},"b":[1.0,null,true]},"schema":1,"task":"train"}'
    assert SCHEMA_VERSION == 1
    assert identity("train", config) == hashlib.sha256(text.encode()).hexdigest()[:12]
    assert identity("probe", config) != identity("train", config)
    with pytest.raises(ValueError, match="not JSON compliant"):
        identity("train", {"a": float("nan")})


@SHARED
@given(data=st.data())
def test_the_id_does_not_depend_on_order_form_or_layer(one_id, data):
    expected = one_id({"set": BASE})
    places: dict[str, Any] = {"set": {}, "scale": {}, "grid": {}, "zip": {}}
    overrides = []
    for key, value in data.draw(st.permutations(list(leaves(BASE).items()))):
        place = data.draw(st.sampled_from([*places, "--set"]))
        if isinstance(value, float) and value.is_integer() and data.draw(st.booleans()):
            value = int(value)
        if place == "--set":
            overrides.append(f"{key}={json.dumps(value)}")
        else:
            places[place][key] = [value] if place in ("grid", "zip") else value
    document = {"scales": {"full": {"set": places.pop("scale")}}} | places
    assert one_id(document, *overrides) == expected


def test_the_id_does_not_depend_on_whether_a_default_is_written_down(one_id):
    short = {"set": {"model.name": "nf_resnet", "train.epochs": 1}}
    written = {"set": short["set"] | {"model.alpha": 0.2, "train.lr": 0.1, "seed": 0, "model.gain": 1.7}}
    assert one_id(short) == one_id(written)


def test_every_key_of_the_config_changes_the_id(one_id):
    changed = {key: one_id({"set": BASE}, f"{key}={json.dumps(value)}") for key, value in OTHER.items()}
    assert len({*changed.values(), one_id({"set": BASE})}) == len(OTHER) + 1
    assert leaves(BASE).keys() - {"model.name"} <= OTHER.keys()
    for first, second in combinations(changed, 2):
        assert changed[first] != changed[second], (first, second)


def test_expanding_again_gives_the_same_runs_in_the_same_order(runs, schemas, write):
    text = "task: train\nscales: {full: }\nset: {model.name: bn_resnet, train.epochs: 1}\n"
    text += "grid: {seed: [2, 0, 1], model.depth: [9, 8]}\narms: {b: {set: {train.lr: 1}}, a: }\n"
    first = runs(text)
    assert first == runs(text)
    assert len({run.id for run in first}) == len(first) == 12
    assert json.loads(json.dumps([run.config for run in first])) == [run.config for run in first]
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import conftest\n"
        "from nfrepro.specs import expand, load_experiment\n"
        "runs = expand(load_experiment('x', Path('experiments')), 'full', {'train': conftest.TrainOptions})\n"
        "print(*(run.id for run in runs))"
    )
    for salt in ("1", "2"):
        environment = {"PYTHONHASHSEED": salt, "PYTHONPATH": ":".join(path for path in sys.path if path)}
        arguments = [sys.executable, "-c", code, __file__.rpartition("/")[0]]
        output = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout
        assert output.split() == [run.id for run in first]


def test_the_difference_of_two_configs_names_each_key():
    stored = {"model": {"alpha": 0.2, "name": "a\nb"}, "seed": 1, "old": None, "same": [1], "flag": True, "clip": None}
    expected = {
        "model": {"alpha": 0.4, "name": "c"},
        "seed": 1,
        "new": {"x": 1},
        "same": [1],
        "flag": 1,
        "clip": {"t": 1},
    }
    assert config_difference(stored, expected) == [
        'clip: null (stored) != {"t":1} (expected)',
        "flag: true (stored) != 1 (expected)",
        "model.alpha: 0.2 (stored) != 0.4 (expected)",
        r'model.name: "a\nb" (stored) != "c" (expected)',
        'new: missing (stored) != {"x":1} (expected)',
        "old: null (stored) != missing (expected)",
    ]
    assert config_difference(stored, json.loads(json.dumps(stored))) == []


def test_importing_the_room_imports_no_heavy_library():
    code = "import sys, nfrepro.specs; print(sorted({'torch', 'numpy', 'pandas', 'scipy'} & set(sys.modules)))"
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout == "[]\n"
