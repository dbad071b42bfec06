"""What the reader takes from YAML text, and the line it says for what it refuses."""

import os
from pathlib import Path

import pytest

from nfrepro.errors import InputError
from nfrepro.specs import find_experiments, load_experiment
from nfrepro.specs.reader import plain, read_value

VALUES = [
    ("1e-3", 0.001),
    ("1E3", 1000.0),
    (".5", 0.5),
    ("-2.", -2.0),
    ("0x1F", 31),
    ("0o17", 15),
    ("+7", 7),
    ("0", 0),
    ("no", "no"),
    ("on", "on"),
    ("yes", "yes"),
    ("Off", "Off"),
    ("true", True),
    ("FALSE", False),
    ("~", None),
    ("Null", None),
    ("", None),
    ("12:30:45", "12:30:45"),
    ("2020-01-01", "2020-01-01"),
    ("1_000", "1_000"),
    ("0b11", "0b11"),
    ("=", "="),
    ("'010'", "010"),
    ('"1e-3"', "1e-3"),
    ("'<<'", "<<"),
    ("[1, [2.0, x]]", [1, [2.0, "x"]]),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_plain_scalars_follow_the_yaml_1_2_core_schema(text, value):
    read = plain(read_value(text, "--set"))
    assert read == value
    assert type(read) is type(value)


def test_ordinary_anchors_and_aliases_work(runs):
    (run,) = runs("""
        task: train
        scales: {full: }
        set:
          model: {name: nf_resnet, alpha: &shared 0.7, gain: *shared}
          train: {epochs: 1}
          """)
    assert run.config["model"]["gain"] == 0.7


REFUSED = [
    ("", "experiments/x.yaml: the file is empty"),
    ("# only this\n", "experiments/x.yaml: the file is empty"),
    ("---\n", "experiments/x.yaml:2: expected a mapping, found null"),
    ("- a\n", "experiments/x.yaml:1: expected a mapping, found a list ['a']"),
    ("word", "experiments/x.yaml:1: expected a mapping, found text 'word'"),
    (b"task: train\ntitle: \xff\n", "experiments/x.yaml:2: is not UTF-8 at byte 19"),
    ("task: a\n\ntask: b\n", "experiments/x.yaml:3: task: key given twice, first at experiments/x.yaml:1"),
    (
        "task: train\nset:\n  model:\n    depth: 1\n    depth: 2\n",
        "experiments/x.yaml:5: set.model.depth: key given twice, first at experiments/x.yaml:4",
    ),
    (
        "task: train\nset:\n  model:\n    depth: 1\n  model.depth: 2\n",
        "experiments/x.yaml:5: model.depth: key given twice, first at experiments/x.yaml:4",
    ),
    (
        "task: train\nset:\n  model.depth: 2\n  model: 7\n",
        "experiments/x.yaml:3: model.depth: a value for all of model is given at experiments/x.yaml:4",
    ),
    ("a: 1\n<<: {b: 2}\n", "experiments/x.yaml:2: <<: merge keys are not read; share settings through extends"),
    ("a: 1\n2: b\n", "experiments/x.yaml:2: key 2 is not text; quote it"),
    ("true: b\n", "experiments/x.yaml:1: key true is not text; quote it"),
    (
        "'<<': 1\n",
        "experiments/x.yaml:1: <<: unknown key; known are title, claims, extends, task, set, grid, zip, scales, arms",
    ),
    ("? [a]\n: b\n", "experiments/x.yaml:1: a key must be text, not a list or a mapping"),
    ("a: 1\n? {b: 1}\n: b\n", "experiments/x.yaml:2: a key must be text, not a list or a mapping"),
    (
        "a:\n- !!python/object/apply:os.system [ls]\n",
        "experiments/x.yaml:2: tag !!python/object/apply:os.system: tags are not read; quote what is meant as text",
    ),
    ("a: !mine 1\n", "experiments/x.yaml:1: tag !mine: tags are not read; quote what is meant as text"),
    ("a: !!set {b, c}\n", "experiments/x.yaml:1: tag !!set: tags are not read; quote what is meant as text"),
    ("a: !!int b\n", "experiments/x.yaml:1: 'b' is not an integer, or too long"),
    (
        "a: 1\n---\nb: 2\n",
        "experiments/x.yaml:2: not valid YAML: expected a single document in the stream, but found another document",
    ),
    (
        "a:\n\tb: 1\n",
        "experiments/x.yaml:2: not valid YAML: while scanning for the next token, "
        "found character '\\t' that cannot start any token",
    ),
    ("a: 1\nb: ]\n", None),
    ("a: {b: 1\n", None),
    ("a: 1\n\n\x07\n", "experiments/x.yaml:3: not valid YAML: character U+0007"),
    ('\na: "\\UFFFFFFFF"\n', "experiments/x.yaml:2: not valid YAML: an escape or number out of range"),
    (
        'a: "\\ud800"\n',
        "experiments/x.yaml:1: '\\ud800' contains half a surrogate pair, which is no character",
    ),
    (
        "a: 1\nb: 010\n",
        "experiments/x.yaml:2: '010' is ambiguous: quote it if it is text, drop the leading zero if a number",
    ),
    ("a: .inf\n", "experiments/x.yaml:1: .inf is not a finite number"),
    ("a: .NaN\n", "experiments/x.yaml:1: .NaN is not a finite number"),
    ("a: -1e999\n", "experiments/x.yaml:1: -1e999 is not a finite number"),
    (f"a: {'9' * 5000}\n", f"experiments/x.yaml:1: '{'9' * 59}… is not an integer, or too long"),
    ("a: *gone\n", "experiments/x.yaml:1: not valid YAML: found undefined alias 'gone'"),
    ("a: &a\n  - 1\n  - *a\n", "experiments/x.yaml:2: nested deeper than 32 levels"),
    ("a: 1\nb: " + "[" * 40 + "]" * 40, "experiments/x.yaml:2: nested deeper than 32 levels"),
    ("a: " + "{a: " * 100_00, "experiments/x.yaml:1: nested deeper than 32 levels"),
    (
        "a: &a0 " + "[" * 20 + "]" * 20 + "\nb: " + "[" * 20 + "*a0" + "]" * 20,
        "experiments/x.yaml:2: nested deeper than 32 levels",
    ),
    ("task: train\nset:\n  " + "a." * 40 + "a: 1\n", None),
    ("task: train\nset:\n  a..b: 1\n", "experiments/x.yaml:3: key 'a..b' has an empty part"),
    ("#" * (256 * 1024 + 1), "experiments/x.yaml: is larger than 256 KiB"),
]
PARTS = {
    "a: 1\nb: ]\n": ["experiments/x.yaml:2: not valid YAML: "],
    "a: {b: 1\n": ["experiments/x.yaml:2: not valid YAML: "],
    "task: train\nset:\n  " + "a." * 40 + "a: 1\n": ["experiments/x.yaml:3: a.a.a", ": nested deeper than 32 levels"],
}


@pytest.mark.parametrize(("text", "line"), REFUSED, ids=range(len(REFUSED)))
def test_text_that_is_refused(message, text, line):
    said = message(text)
    if line is None:
        assert all(part in said for part in PARTS[text])
        assert said.startswith(PARTS[text][0])
    else:
        assert said == line


def test_aliases_that_expand_without_end_are_refused_at_once(message):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert message("\n".join(lines)) == "experiments/x.yaml:5: more than 100000 values once aliases are expanded"


def test_a_file_of_exactly_the_largest_size_is_read(runs):
    text = "task: train\nscales: {full: }\nset: {model.name: bn_resnet, train.epochs: 1}\n"
    (run,) = runs(text + "#" * (256 * 1024 - len(text)))
    assert run.config["model"]["name"] == "bn_resnet"


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda path: path.mkdir(), "experiments/y.yaml: is not a regular file"),
        (os.mkfifo, "experiments/y.yaml: is not a regular file"),
        (
            lambda path: path.symlink_to(path.name),
            "experiments/y.yaml: cannot be read: Too many levels of symbolic links",
        ),
        (lambda path: None, "experiments/y.yaml: no such file"),
    ],
    ids=["directory", "pipe", "loop", "missing"],
)
def test_a_path_that_is_no_readable_file(write, make, line):
    path = write("task: train").with_name("y.yaml")
    make(path)
    with pytest.raises(InputError) as caught:
        load_experiment("experiments/y.yaml", Path("experiments"))
    assert str(caught.value) == line


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(write):
    write("task: train").chmod(0)
    with pytest.raises(InputError, match=r"^experiments/x.yaml: cannot be read: Permission denied$"):
        load_experiment("x", Path("experiments"))


def test_absolute_paths_are_shown_from_the_working_directory_where_they_lie_below_it(write, tmp_path):
    write("taks: train")
    for folder, shown in [
        (tmp_path / "experiments", "experiments/x.yaml"),
        (Path("experiments"), "experiments/x.yaml"),
    ]:
        with pytest.raises(InputError) as caught:
            load_experiment("x", folder)
        assert str(caught.value) == f"{shown}:1: taks: unknown key, did you mean task?"
    os.chdir("experiments/recipes")
    with pytest.raises(InputError) as caught:
        load_experiment("x", tmp_path / "experiments")
    assert str(caught.value).startswith(f"{tmp_path}/experiments/x.yaml:1: ")


SECTIONS = [
    ("title: [a]", "experiments/x.yaml:2: title: expected text, found a list ['a']"),
    ("claims: C1", "experiments/x.yaml:2: claims: expected a list, found text 'C1'"),
    ("claims: [1]", "experiments/x.yaml:2: claims: expected text, found 1"),
    ("set: [a]", "experiments/x.yaml:2: set: expected a mapping, found a list ['a']"),
    ("set:", "experiments/x.yaml:2: set: expected a mapping, found null"),
    ("grid: 3", "experiments/x.yaml:2: grid: expected a mapping, found 3"),
    (
        "include: [{seed: 1}]",
        "experiments/x.yaml:2: include: unknown key; list such runs as arms of their own, under arms",
    ),
    (
        "exclude: [{seed: 1}]",
        "experiments/x.yaml:2: exclude: unknown key; list such runs as arms of their own, under arms",
    ),
    ("gird: {seed: [1]}", "experiments/x.yaml:2: gird: unknown key, did you mean grid?"),
    ("scales: {full: {gird: {}}}", "experiments/x.yaml:2: scales.full.gird: unknown key, did you mean grid?"),
    ("arms:\n  a:\n    sets: {}", "experiments/x.yaml:4: arms.a.sets: unknown key, did you mean set?"),
    (
        "arms: {a: {task: probe}}",
        "experiments/x.yaml:2: arms.a.task: unknown key; known are set, grid, zip, scales, only",
    ),
    ("scales: {a/b: }", "experiments/x.yaml:2: scales: name 'a/b' may hold only letters, digits, _ and -"),
    ("extends: {a: b}", "experiments/x.yaml:2: extends: expected text, found a mapping"),
]


@pytest.mark.parametrize(("text", "line"), SECTIONS)
def test_sections_of_the_wrong_form(message, text, line):
    assert message(f"task: train\n{text}\n") == line


def test_a_task_is_required_and_must_be_known(message):
    assert message("title: a") == "experiments/x.yaml: missing required key task"
    assert message("title: a\ntask: trian\nscales: {full: }") == (
        "experiments/x.yaml:2: task: unknown task trian, did you mean train?; known are train, probe"
    )


def test_find_experiments_lists_top_level_files_only(write):
    for name in ("b.yaml", "a.yaml", "claims.yaml", "recipes/r.yaml", "notes.txt", ".a.yaml"):
        write("task: train", name)
    Path("experiments/c.yaml").mkdir()
    assert find_experiments(Path("experiments")) == [Path("experiments/a.yaml"), Path("experiments/b.yaml")]
    with pytest.raises(InputError, match=r"^nowhere: no such folder of experiments: name it by --experiments or "):
        find_experiments(Path("nowhere"))


def test_an_experiment_says_what_its_file_says(write):
    write("title: The title\nclaims: [C1, C2]\ntask: train\nscales: {smoke: , paper: }\narms: {a: {scales: {more: }}}")
    experiment = load_experiment("x", Path("experiments"))
    assert (experiment.name, experiment.title, experiment.claims) == ("x", "The title", ("C1", "C2"))
    assert (experiment.task, experiment.scales) == ("train", ("smoke", "paper", "more"))
    assert experiment.path == Path("experiments/x.yaml")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("alpha_ablatoin", "experiments: no experiment alpha_ablatoin, did you mean alpha_ablation?; there are "),
        ("zzz", "experiments: no experiment zzz, there are alpha_ablation, x"),
        ("../x", "experiment name '../x' may hold only letters, digits and _"),
        ("", "experiment name '' may hold only letters, digits and _"),
        ("experiments/a b.yaml", "experiment name 'a b' may hold only letters, digits and _"),
        ("a\0b/x.yaml", "experiment 'a\\x00b/x.yaml' is neither the name nor the path of an experiment"),
        ("claims", "experiments: no experiment claims, there are alpha_ablation, x"),
    ],
)
def test_names_that_are_no_experiment(write, name, line):
    write("task: train")
    write("task: train", "alpha_ablation.yaml")
    write("C1: text", "claims.yaml")
    with pytest.raises(InputError) as caught:
        load_experiment(name, Path("experiments"))
    assert str(caught.value).startswith(line)
