"""From layers and axes to runs, and what is said about configs that the schema refuses."""

from itertools import product
from pathlib import Path

import pytest
from pydantic import Field

from nfrepro.errors import InputError
from nfrepro.options import Options, TaskOptions
from nfrepro.specs import Run, expand, load_experiment, run_id

HEAD = """task: train
scales:
  full:
  smoke: {set: {train.lr: 0.5}}
set:
  model: {name: nf_resnet}
  train.epochs: 3
"""
# The next line of a text that starts with HEAD is line 8.


def values(runs: list[Run], *keys: str) -> list[tuple[object, ...]]:
    def value(run: Run, key: str) -> object:
        found: object = run.config
        for part in key.split("."):
            assert isinstance(found, dict)
            found = found[part]
        return found

    return [tuple(value(run, key) for key in keys) for run in runs]


def test_a_run_carries_its_complete_config(runs, schemas):
    (run,) = runs(HEAD)
    assert (run.experiment, run.scale, run.task) == ("x", "full", "train")
    assert run.config == {
        "seed": 0,
        "model": {
            "name": "nf_resnet",
            "depth": 50,
            "alpha": 0.2,
            "blocks": [],
            "activation": "relu",
            "gain": 1.7,
        },
        "train": {
            "lr": 0.1,
            "epochs": 3,
            "batch_size": 256,
            "nesterov": False,
            "decay": "auto",
            "clipping": None,
        },
        "extra": {},
    }
    assert run.id == run_id(schemas["train"].model_validate(run.config), "train")
    assert run.id.startswith("nf_resnet-seed0-")


def test_nested_and_dotted_keys_are_the_same(runs):
    nested = runs(HEAD.replace("train.epochs: 3", "train: {epochs: 3, clipping: {threshold: 0.5}}"))
    assert nested == runs(HEAD + "  train.clipping.threshold: 0.5\n")
    assert nested == runs(HEAD + "  train.clipping: {threshold: 0.5}\n")


def test_axes_vary_in_declaration_order_the_last_fastest(runs):
    expanded = runs(
        HEAD + "grid:\n  train.lr: [2.0, 1.0]\n  seed: [3, 1]\nzip: {model.depth: [9, 8], train.epochs: [1, 2]}"
    )
    expected = [(lr, seed, *pair) for lr, seed, pair in product([2.0, 1.0], [3, 1], [(9, 1), (8, 2)])]
    assert values(expanded, "train.lr", "seed", "model.depth", "train.epochs") == expected


def test_several_zips_are_independent(runs):
    expanded = runs(HEAD + "zip:\n- {seed: [0, 1], model.depth: [5, 6]}\n- {train.lr: [1.0, 2.0]}\n")
    assert values(expanded, "seed", "model.depth", "train.lr") == [(0, 5, 1), (0, 5, 2), (1, 6, 1), (1, 6, 2)]


def test_lists_are_lists_of_values_and_mappings_are_values(runs):
    expanded = runs(HEAD + "grid:\n  model.blocks: [[1, 2], []]\n  train.clipping: [null, {threshold: 0.3}]\n")
    assert values(expanded, "model.blocks", "train.clipping") == [
        ([1, 2], None),
        ([1, 2], {"threshold": 0.3}),
        ([], None),
        ([], {"threshold": 0.3}),
    ]


def test_a_mapping_below_replaces_null_and_null_replaces_a_mapping(runs):
    scales = "scales: {full: {set: {train.clipping.threshold: 0.5}}, off: {set: {train.clipping: null}}}\n"
    text = HEAD[: HEAD.index("scales:")] + scales + HEAD[HEAD.index("set:\n") :] + "  train.clipping: {}\n"
    assert values(runs(text), "train.clipping.threshold") == [(0.5,)]
    assert values(runs(text, scale="off"), "train.clipping") == [(None,)]


def test_arms_follow_each_other_each_with_its_own_layers(runs):
    expanded = runs(
        """
        task: train
        set: {train.epochs: 3, model.depth: 26}
        grid: {seed: [0, 1]}
        arms:
          bn:
            set: {model: {name: bn_resnet}}
            grid: {train.lr: [0.3, 0.4]}
          nf:
            set: {model.name: nf_resnet}
            scales:
              full: {set: {train.epochs: 9}, grid: {seed: [7]}}
        scales:
          full: {set: {train.epochs: 5}}
        """
    )
    assert values(expanded, "model.name", "model.depth", "seed", "train.epochs", "train.lr") == [
        ("bn_resnet", 26, 0, 5, 0.3),
        ("bn_resnet", 26, 0, 5, 0.4),
        ("bn_resnet", 26, 1, 5, 0.3),
        ("bn_resnet", 26, 1, 5, 0.4),
        ("nf_resnet", 26, 7, 9, 0.1),
    ]


def test_an_arm_may_be_one_of_some_scales_only(runs, message):
    arms = "arms:\n  a: {set: {model.alpha: 1.0}}\n  b: {set: {model.alpha: 2.0}, only: [smoke]}\n"
    assert values(runs(HEAD + arms), "model.alpha") == [(1.0,)]
    assert values(runs(HEAD + arms, scale="smoke"), "model.alpha") == [(1.0,), (2.0,)]
    assert message(HEAD + arms.replace("[smoke]", "[smok]")).endswith(
        "x.yaml:10: arms.b.only: no scale smok, did you mean smoke?"
    )
    alone = "arms:\n  b: {set: {model.alpha: 2.0}, only: [smoke]}\n"
    assert message(HEAD + alone).endswith("no arm at scale full: see `only`")
    assert "only: unknown key" in message("only: [smoke]\n" + HEAD)


def test_a_scale_replaces_axes_and_zips(runs):
    text = """
        task: train
        set: {model.name: nf_resnet, train.epochs: 3}
        grid: {seed: [0, 1, 2], model.depth: [1, 2]}
        zip: {train.lr: [1, 2], train.batch_size: [1, 2]}
        scales:
          full:
          narrow:
            set: {train.batch_size: 64}
            zip: {train.lr: [3]}
            grid: {seed: [0, 1], model.alpha: [0.5]}
        """
    assert len(runs(text)) == 6 * 2
    keys = ("seed", "model.depth", "model.alpha", "train.lr", "train.batch_size")
    assert values(runs(text, scale="narrow"), *keys) == [
        (0, 1, 0.5, 3, 64),
        (0, 2, 0.5, 3, 64),
        (1, 1, 0.5, 3, 64),
        (1, 2, 0.5, 3, 64),
    ]


def test_extended_files_lie_below_in_order_depth_first(write, runs):
    write(
        "set: {train: {epochs: 1, batch_size: 1, lr: 1}, model.depth: 1}\nscales: {full: {set: {seed: 1}}}",
        "recipes/a.yaml",
    )
    write(
        "extends: recipes/a.yaml\nset: {train: {epochs: 2, batch_size: 2}}\ngrid: {model.alpha: [1, 2]}",
        "recipes/b.yaml",
    )
    write("task: train\nextends: [recipes/a.yaml]\nset: {train.lr: 3}", "recipes/c.yaml")
    text = """
        extends: [recipes/b.yaml, recipes/c.yaml]
        set: {model.name: nf_resnet, train.epochs: 4}
        scales: {full: {set: {model.depth: 4}}}
        """
    keys = ("train.epochs", "train.batch_size", "train.lr", "model.depth", "model.alpha", "seed")
    # a counts once, below b; else it would undo b's batch size.
    assert values(runs(text), *keys) == [(4, 2, 3, 4, 1, 1), (4, 2, 3, 4, 2, 1)]


def test_a_scale_of_the_file_itself_lies_above_that_of_an_extended_file(write, runs):
    write("scales: {full: {set: {train: {epochs: 1, lr: 1}}}, other: }", "recipes/a.yaml")
    text = """
        extends: recipes/a.yaml
        task: train
        set: {model.name: nf_resnet, train: {epochs: 5, lr: 5}}
        scales: {full: {set: {train.lr: 2}}}
        """
    assert values(runs(text), "train.epochs", "train.lr") == [(1, 2)]
    assert values(runs(text, scale="other"), "train.epochs", "train.lr") == [(5, 5)]


def test_title_claims_and_task_are_those_of_the_last_file_that_gives_them(write):
    write("title: Recipe\nclaims: [C1]\ntask: probe", "recipes/a.yaml")
    write("extends: recipes/a.yaml\ntitle: Own\ntask: train")
    experiment = load_experiment("x", Path("experiments"))
    assert (experiment.title, experiment.claims, experiment.task) == ("Own", ("C1",), "train")


def test_arms_of_extended_files_are_merged_by_name(write, runs):
    write("arms: {bn: {set: {model: {name: bn_resnet, depth: 3}}}}", "recipes/a.yaml")
    text = """
        extends: recipes/a.yaml
        task: train
        set: {train.epochs: 5}
        arms: {nf: {set: {model.name: nf_resnet}}, bn: {set: {model.depth: 4}}}
        scales: {full: }
        """
    assert values(runs(text), "model.name", "model.depth") == [("bn_resnet", 4), ("nf_resnet", 50)]


def test_axis_wins_over_set_of_the_same_layer_and_below(runs):
    text = HEAD + "  train.lr: 9\n  seed: 4\ngrid: {train.lr: [1.0]}\n"
    assert values(runs(text), "train.lr", "seed") == [(1.0, 4)]


def test_overrides_are_on_top(runs):
    text = HEAD + "grid: {seed: [0, 1, 2], model.alpha: [1, 2]}\n"
    keys = ("seed", "model.alpha", "model.depth")
    assert values(runs(text, "seed=7", "train.lr=1e-3"), *keys, "train.lr") == [
        (7, 1, 50, 0.001),
        (7, 2, 50, 0.001),
    ]
    assert values(runs(text, "seed=[2, 1]", "model.alpha=2", "model.depth=8"), *keys) == [(2, 2, 8), (1, 2, 8)]
    assert values(runs(text, "model={depth: 3, alpha: 1}"), *keys) == [(0, 1, 3), (1, 1, 3), (2, 1, 3)]
    assert values(
        runs(HEAD, "train.clipping={threshold: 3}", "seed=1", "seed=2"), "train.clipping.threshold", "seed"
    ) == [(3, 2)]


def test_an_override_pins_an_axis_of_mappings(runs):
    text = HEAD + "grid: {train.clipping: [null, {threshold: 0.3}]}\n"
    assert values(runs(text, "train.clipping={threshold: 2}"), "train.clipping") == [({"threshold": 2},)]
    assert values(runs(text, "train.clipping=null"), "train.clipping") == [(None,)]


def test_an_error_in_a_file_comes_before_one_in_an_override(message):
    line = "experiments/x.yaml:8: train.lr: expected a number, found text 'x' (and 1 more)"
    assert message(HEAD + "  train.lr: x\n", "seed=x") == line


def test_the_line_of_an_alias_is_where_it_is_used(message):
    text = "title: &word Text\n" + HEAD + "  train.lr: *word\n"
    assert message(text) == "experiments/x.yaml:9: train.lr: expected a number, found text 'Text'"


class Tree(Options):
    kind: str
    children: list["Tree"] = Field(default_factory=list)


class TreeOptions(TaskOptions):
    tree: Tree


def test_schemas_that_contain_themselves_and_models_in_lists(write, runs):
    def expanded(tree: str) -> list[Run]:
        write(f"task: trees\nscales: {{full: }}\nset:\n  tree: {tree}\n")
        return expand(load_experiment("x", Path("experiments")), "full", {"trees": TreeOptions})

    (run,) = expanded("{kind: a, children: [{kind: b}]}")
    assert run.config["tree"]["children"] == [{"kind": "b", "children": []}]
    for tree, line in [
        ("{kind: a, children: [{kind: b}, {}]}", "tree.children.1.kind: missing required key"),
        ("{kind: a, children: [{kidn: b, kind: c}]}", "tree.children.0.kidn: unknown key, did you mean tree.kind?"),
    ]:
        with pytest.raises(InputError) as caught:
            expanded(tree)
        assert str(caught.value) == f"experiments/x.yaml:4: {line}"


def test_a_list_override_for_every_group_narrows_rather_than_sets(runs, message):
    assert values(runs(HEAD, "model.blocks=[1, 2]"), "model.blocks") == [([1, 2],)]
    assert message(HEAD, "seed=[1, 2]") == "--set seed=[1, 2]: seed: expected an integer, found a list [1, 2]"


CONFIG_ERRORS = [
    ("  model.alhpa: 3", "8: model.alhpa: unknown key, did you mean model.alpha?"),
    ("  lr: 3", "8: lr: unknown key, did you mean train.lr?"),
    ("  batch_siz: 3", "8: batch_siz: unknown key, did you mean train.batch_size?"),
    ("  trane.momentun: 3", "8: trane: unknown key, did you mean train?"),
    ("  zzzzz: 3", "8: zzzzz: unknown key"),
    ("  '*': 3", "8: *: unknown key"),
    ("  train.lr: *word\ntitle: Text", "8: not valid YAML: found undefined alias 'word'"),
    ("  model.momentum: 0.5", "8: model.momentum: unknown key for model nf_resnet"),
    (
        "  train.clipping:\n    treshold: 1",
        "9: train.clipping.treshold: unknown key, did you mean train.clipping.threshold?",
    ),
    ("  train.lr: abc", "8: train.lr: expected a number, found text 'abc'"),
    ("  train.lr: -1", "8: train.lr: expected a value greater than 0, found -1"),
    ("  train.lr: 1_000", "8: train.lr: expected a number, found text '1_000'"),
    ("  train.lr: true", "8: train.lr: expected a number, found true"),
    ("  train.batch_size: 1e3", "8: train.batch_size: expected an integer, found 1000.0"),
    ("  train.batch_size:", "8: train.batch_size: expected an integer, found null"),
    ("  train.nesterov: no", "8: train.nesterov: expected true or false, found text 'no'; write true or false"),
    ("  train.nesterov: On", "8: train.nesterov: expected true or false, found text 'On'; write true or false"),
    ("  train.nesterov: 1", "8: train.nesterov: expected true or false, found 1"),
    ("  train.decay: maybe", "8: train.decay: expected a number or 'auto', found text 'maybe'"),
    (
        "  model.activation: rellu",
        "8: model.activation: expected one of 'relu' or 'silu', found text 'rellu', did you mean relu? (and 1 more)",
    ),
    ("  model.blocks: [1, x]", "8: model.blocks.1: expected an integer, found text 'x'"),
    ("  model.blocks: 3", "8: model.blocks: expected a list, found 3"),
    ("  train.clipping: 7", "8: train.clipping: expected a mapping, found 7"),
    ("  extra: {a: b}", "8: extra.a: expected a number, found text 'b'"),
    ("  model.alpha: 13", "6: model: alpha 13 brings\\nbad luck"),
    ("  seed: 2147483648", "8: seed: expected a value less than 2147483648, found 2147483648"),
    ("  seed: x\n  train.lr: x\n  train.decay: []", "8: seed: expected an integer, found text 'x' (and 2 more)"),
    ("grid:\n  seed: [0,\n    x,\n    1]", "10: seed: expected an integer, found text 'x'"),
    ("grid:\n  seed:\n  - 0\n  - 1\n  - {a: 1}", "12: seed: expected an integer, found a mapping"),
    ("grid:\n  model.alhpa:\n  - 0\n", "10: model.alhpa: unknown key, did you mean model.alpha?"),
    ("grid: {seed: []}", "8: grid.seed: empty axis"),
    ("grid: {seed: 3}", "8: grid.seed: expected a list, found 3"),
    ("grid: {model: {depth: [3]}}", "8: grid.model: expected a list, found a mapping"),
    (
        "zip:\n  seed: [0, 1]\n  train.lr: [1.0]",
        "10: zip.train.lr: 1 values, but seed has 2 (experiments/x.yaml:9)",
    ),
    ("grid:\n  seed: [0]\nzip:\n  seed: [1]", "11: seed: key given twice, first at experiments/x.yaml:9"),
    ("zip:\n- seed: [0]\n- seed: [1]", "10: seed: key given twice, first at experiments/x.yaml:9"),
    (
        "grid:\n  model: [{depth: 1}]\n  model.alpha: [1]",
        "10: model.alpha: a value for all of model is given at experiments/x.yaml:9",
    ),
    (
        "grid:\n  model.alpha: [0.1]\n  seed: [0,\n    1,\n    0]",
        "12: duplicate run (model.alpha: 0.1, seed: 0): the same config as at experiments/x.yaml:10",
    ),
    (
        "grid: {seed: [0]}\narms:\n  one:\n  two:",
        "11: duplicate run (seed: 0): the same config as at experiments/x.yaml:10",
    ),
]


@pytest.mark.parametrize(("text", "line"), CONFIG_ERRORS)
def test_what_is_wrong_is_said_with_the_line_that_gave_it(message, text, line):
    assert message(f"{HEAD}{text}\n") == f"experiments/x.yaml:{line}"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("  train.epochs: 3\n", "", "1: train: missing required key"),
        ("  train.epochs: 3\n", "  train:\n    lr: 3\n", "7: train.epochs: missing required key"),
        ("{name: nf_resnet}", "{depth: 3}", "6: model.name: missing required key"),
        ("train.epochs: 3", "train.epoch: 3", "7: train.epoch: unknown key, did you mean train.epochs? (and 1 more)"),
        ("{name: nf_resnet}", "3", "6: model: expected a mapping, found 3"),
        (
            "nf_resnet",
            "nf_resnt",
            "6: model.name: expected one of 'nf_resnet', 'bn_resnet', found text 'nf_resnt', did you mean nf_resnet?",
        ),
        ("nf_resnet", "7", "6: model.name: expected one of 'nf_resnet', 'bn_resnet', found 7"),
        ("nf_resnet", "[a]", "6: model.name: expected one of 'nf_resnet', 'bn_resnet', found a list ['a']"),
        # The schema derives a gain from the activation, which it then refuses too.
        (
            "{name: nf_resnet}",
            "{name: nf_resnet, activation: 3}",
            "6: model.activation: expected one of 'relu' or 'silu', found 3 (and 1 more)",
        ),
    ],
)
def test_required_keys_and_choice_of_variant(message, old, new, line):
    assert message(HEAD.replace(old, new)) == f"experiments/x.yaml:{line}"


def test_a_key_missing_in_one_arm_is_said_with_the_arm(message):
    text = HEAD.replace("  train.epochs: 3\n", "") + "arms:\n  one: {set: {train.epochs: 3}}\n  two:\n"
    assert message(text) == "experiments/x.yaml:9: train: missing required key"


@pytest.mark.parametrize("recipe", [True, False])
def test_the_line_is_that_of_the_layer_that_won(write, message, recipe):
    write("set:\n  train.lr: 7\n  train.batch_size: small\n", "recipes/a.yaml")
    own = "" if recipe else "  train.batch_size: big\n"
    place = "experiments/recipes/a.yaml:3" if recipe else "experiments/x.yaml:8"
    found = "small" if recipe else "big"
    assert message(HEAD + own + "extends: recipes/a.yaml\n") == (
        f"{place}: train.batch_size: expected an integer, found text '{found}'"
    )


def test_set_in_a_layer_above_an_axis_is_refused(write, message):
    write("grid:\n  model.alpha: [1]\n", "recipes/a.yaml")
    assert message(HEAD + "grid: {train.lr: [1.0]}\n", scale="smoke") == (
        "experiments/x.yaml:4: train.lr: is an axis (experiments/x.yaml:8); narrow it under grid instead"
    )
    assert message(HEAD + "zip: {train.lr: [1.0]}\n", scale="smoke") == (
        "experiments/x.yaml:4: train.lr: is an axis (experiments/x.yaml:8); narrow it under zip instead"
    )
    of_mappings = "grid: {train: [{lr: 1.0, epochs: 1}, {lr: 2.0, epochs: 2}]}\n"
    assert message(HEAD.replace("  train.epochs: 3\n", "") + of_mappings, scale="smoke") == (
        "experiments/x.yaml:4: train: is an axis (experiments/x.yaml:7); narrow it under grid instead"
    )
    assert message(HEAD + "  model.alpha: 3\nextends: recipes/a.yaml\n") == (
        "experiments/x.yaml:8: model.alpha: is an axis (experiments/recipes/a.yaml:2); narrow it under grid instead"
    )


OVERRIDE_ERRORS = [
    ("model.alpha=abc", "--set model.alpha=abc: model.alpha: expected a number, found text 'abc'"),
    ("train.rl=1", "--set train.rl=1: train.rl: unknown key, did you mean train.lr?"),
    ("train.lr", "--set train.lr: expected key=value, for example train.lr_per_256=0.1"),
    ("=3", "--set =3: expected key=value, for example train.lr_per_256=0.1"),
    ("a..b=3", "--set a..b=3: key 'a..b' has an empty part"),
    ("seed=[]", "--set seed=[]: seed: empty axis"),
    (
        "seed=[0, 0]",
        "--set seed=[0, 0]: duplicate run (seed: 0, train.lr: 1.0, model.depth: 1): the same config as at ",
    ),
    ("train.epochs=010", "--set train.epochs=010: '010' is ambiguous: quote it if it is text, drop the leading zero"),
    (
        "train.nesterov=no",
        "--set train.nesterov=no: train.nesterov: expected true or false, found text 'no'; write true",
    ),
    ("train.lr=2", "--set train.lr=2: train.lr: moves together with other keys under zip (experiments/x.yaml:10)"),
    (
        "train={lr: 2}",
        "--set train={lr: 2}: train.lr: moves together with other keys under zip (experiments/x.yaml:10)",
    ),
    ("train.epochs=[1", "--set train.epochs=[1: not valid YAML: while parsing a flow sequence, "),
    ("train.epochs=1\n2: 3", "--set train.epochs=1\\n2: 3: "),
    ("train.epochs=\udcff", "--set train.epochs=\\udcff: not valid YAML: character U+DCFF"),
    ("train.\udcff=1", "--set train.\\udcff=1: expected key=value"),
    (".".join("a" * 40) + "=1", "--set a.a.a."),
]


@pytest.mark.parametrize(("override", "line"), OVERRIDE_ERRORS, ids=range(len(OVERRIDE_ERRORS)))
def test_overrides_that_are_refused(message, override, line):
    text = HEAD + "grid:\n  seed: [0, 1]\nzip: {train.lr: [1.0], model.depth: [1]}\n"
    assert message(text, override).startswith(line)


def test_scales_that_the_experiment_lacks(message, runs, write):
    assert message(HEAD, scale="smkoe") == (
        "experiments/x.yaml: no scale smkoe, did you mean smoke?; it has full, smoke"
    )
    assert message(HEAD, scale="paper") == "experiments/x.yaml: no scale paper, it has full, smoke"
    assert message("task: train") == "experiments/x.yaml: no scale full, it has none"
    assert load_experiment("x", Path("experiments")).scales == ()


def test_too_many_runs_are_refused_before_they_are_built(message):
    axis = "[" + ", ".join(map(str, range(1000))) + "]"
    text = f"{HEAD}grid: {{seed: {axis}, train.epochs: {axis}, model.depth: {axis}, train.batch_size: {axis}}}\n"
    assert message(text) == "experiments/x.yaml: 1000000000000 runs at scale full; the limit is 100000"


def test_extends_that_cannot_be_followed(write, message, tmp_path):
    write("extends: recipes/b.yaml", "recipes/a.yaml")
    write("\nextends: [recipes/a.yaml]", "recipes/b.yaml")
    (tmp_path / "outside.yaml").write_text("task: train")
    Path("experiments/recipes/link.yaml").symlink_to(tmp_path / "outside.yaml")
    outside = "experiments/x.yaml:2: extends: {} lies outside experiments"
    expected = {
        "recipes/a.yaml": "experiments/recipes/b.yaml:2: extends: files extend each other: experiments/x.yaml -> "
        "experiments/recipes/a.yaml -> experiments/recipes/b.yaml -> experiments/recipes/a.yaml",
        "x.yaml": "experiments/x.yaml:2: extends: files extend each other: experiments/x.yaml -> experiments/x.yaml",
        "recipes/none.yaml": "experiments/x.yaml:2: extends: no file experiments/recipes/none.yaml",
        "recipes": "experiments/x.yaml:2: extends: no file experiments/recipes",
        "../outside.yaml": outside.format("../outside.yaml"),
        "recipes/link.yaml": outside.format("recipes/link.yaml"),
        str(tmp_path / "outside.yaml"): outside.format(tmp_path / "outside.yaml"),
        '"a\\0"': "experiments/x.yaml:2: extends: 'a\\x00' is no path",
        "[recipes/none.yaml]": "experiments/x.yaml:2: extends: no file experiments/recipes/none.yaml",
        "a" * 5000: None,
    }
    for target, line in expected.items():
        said = message(f"task: train\nextends: {target}\n")
        assert said == line or (
            line is None and said.startswith("experiments/x.yaml:2: extends: no file experiments/aaa")
        )


def test_a_long_chain_of_extends_is_refused_rather_than_followed(write, message):
    for number in range(2000):
        write(f"extends: recipes/{number + 1}.yaml", f"recipes/{number}.yaml")
    assert message("task: train\nextends: recipes/0.yaml") == (
        "experiments/recipes/31.yaml:1: extends: a chain of more than 32 files"
    )


def test_a_path_makes_its_own_folder_the_root_of_extends(write, schemas):
    write("extends: base.yaml\nset: {model.name: bn_resnet}", "recipes/own.yaml")
    write("task: train\nset: {train.epochs: 2}\nscales: {full: }", "recipes/base.yaml")
    experiment = load_experiment("experiments/recipes/own.yaml", Path("elsewhere"))
    (run,) = expand(experiment, "full", schemas)
    assert (run.experiment, run.config["train"]["epochs"]) == ("own", 2)
    write("extends: ../x.yaml", "recipes/own.yaml")
    with pytest.raises(InputError) as caught:
        load_experiment("experiments/recipes/own.yaml", Path("experiments"))
    assert str(caught.value) == "experiments/recipes/own.yaml:1: extends: ../x.yaml lies outside experiments/recipes"


def test_nothing_is_written(write, runs, tmp_path):
    runs(HEAD + "grid: {seed: [0, 1]}")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["experiments", "recipes", "x.yaml"]
