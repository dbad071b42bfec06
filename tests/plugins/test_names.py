"""Names of own code: found or refused by reading files, loaded as Python would, told apart by their state."""

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from nfrepro.errors import InputError
from nfrepro.plugins.loading import load, load_attribute
from nfrepro.plugins.names import Call, check_name, check_options, search_in
from nfrepro.plugins.sources import check_source, source_of
from tests.plugins.conftest import Write

MAKE = "def make(num_classes, *, width=8, depth):\n    return (num_classes, width, depth)\n"
CALL = Call(named=("num_classes",), if_taken=("in_channels",))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("own_nets:mak", "has no mak, did you mean make?"),
        ("own_nts:make", "no module own_nts"),
        ("own_nets.inner:make", "no module own_nets.inner"),
        ("own_nets:", "is not of the form"),
        ("own nets:make", "is not of the form"),
        ("a:b:c", "is not of the form"),
    ],
)
def test_a_name_that_cannot_be_right_is_refused_without_running_its_file(project: Write, name: str, says: str) -> None:
    project("own_nets.py", MAKE + "raise SystemExit\n")
    check_name("own_nets:make")
    with pytest.raises(InputError, match=says.replace("?", r"\?")):
        check_name(name)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"depth": 1, "widht": 2}, "unexpected option widht, did you mean width?"),
        ({"width": 2}, "option depth is missing"),
        ({"depth": 1, "num_classes": 3}, "num_classes is set by the run"),
        ({"depth": float("nan")}, "finite numbers"),
    ],
)
def test_options_are_held_against_the_signature(project: Write, options: dict[str, Any], says: str) -> None:
    path = project("own_checked.py", MAKE)
    check_options("own_checked:make", {"depth": 3}, CALL)
    with pytest.raises(InputError, match=says.replace("?", r"\?")):
        check_options("own_checked:make", options, CALL)
    # A signature that only execution tells is checked once the file is executed, with the same words.
    path.write_text(path.read_text() + "import functools\nmake = functools.partial(make)\n")
    if "finite" not in says:
        check_options("own_checked:make", options, CALL)
        with pytest.raises(InputError, match=says.replace("?", r"\?")):
            load("own_checked:make", options, CALL)


def test_a_class_is_checked_by_its_initializer(project: Write) -> None:
    project("own_class.py", "class Net:\n    def __init__(self, num_classes, width=1):\n        self.width = width\n")
    check_options("own_class:Net", {"width": 2}, CALL)
    with pytest.raises(InputError, match="unexpected option self"):
        check_options("own_class:Net", {"self": 2}, CALL)
    assert load("own_class:Net", {}, CALL)(num_classes=2).width == 1


def test_a_file_of_the_project_comes_before_an_installed_package_and_is_refused_where_that_is_loaded(
    project: Write,
) -> None:
    path = project("yaml.py", "def load(num_classes):\n    return num_classes\n")
    import yaml

    assert yaml.__file__ != str(path)
    check_name("yaml:load")
    with pytest.raises(InputError, match="rename yours"):
        load_attribute("yaml:load")


def test_what_a_file_raises_is_one_line(project: Write) -> None:
    project("own_raises.py", "def f(): ...\nraise RuntimeError('no\\nway')\n")
    with pytest.raises(InputError, match="own_raises:f: cannot be imported: RuntimeError"):
        load_attribute("own_raises:f")
    project("own_broken.py", "def f(:\n")
    with pytest.raises(InputError, match=r"own_broken\.py:1: "):
        check_name("own_broken:f")


@pytest.mark.parametrize("changed", ["__init__.py", "nets.py", "blocks.py", "deep/er.py", "../own_far.py"])
def test_a_change_of_any_imported_file_of_the_project_is_seen(project: Write, changed: str) -> None:
    files = {
        "__init__.py": "",
        "nets.py": "from . import blocks\ndef make():\n    from own_far import x\n",
        "blocks.py": "from .deep.er import y\n",
        "deep/er.py": "y = 1\n",
        "../own_far.py": "x = 1\nimport own_seen.nets\n",
    }
    for name, text in files.items():
        project(f"own_seen/{name}", text)
    state = source_of(["own_seen.nets:make"])
    project("own_seen/unrelated.py", "z = 2\n")
    assert source_of(["own_seen.nets:make"]) == state
    project(f"own_seen/{changed}", files[changed] + "\nz = 2\n")
    assert source_of(["own_seen.nets:make"]) != state
    with pytest.raises(InputError, match="has changed since this run was planned"):
        check_source(["own_seen.nets:make"], state)


def test_the_state_does_not_depend_on_where_the_project_lies(project: Write, tmp_path: Path) -> None:
    project("one/own_moved.py", MAKE)
    search_in([tmp_path / "one"])
    state = source_of(["own_moved:make"])
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    search_in([tmp_path / "two"])
    assert source_of(["own_moved:make"]) == state


def test_of_an_installed_package_the_state_is_its_version(project: Write) -> None:
    project("own_mixed.py", MAKE)
    assert source_of(["torch.optim:RMSprop"]) == f"torch=={version('torch')}"
    assert source_of([]) is None
    both = source_of(["torch.optim:RMSprop", "own_mixed:make"])
    assert both == f"{source_of(['own_mixed:make'])}, torch=={version('torch')}"


def test_a_file_that_has_changed_is_imported_again(project: Write) -> None:
    project("own_edited.py", "from own_part import value\ndef f():\n    return value\n")
    project("own_part.py", "value = 1\n")
    assert load_attribute("own_edited:f")() == 1
    project("own_part.py", "value = 1000\n")
    assert load_attribute("own_edited:f")() == 1000


def test_reading_names_and_states_brings_no_torch(project: Write, tmp_path: Path) -> None:
    project("own_light.py", "import torch\n" + MAKE)
    script = (
        "import sys; from nfrepro.plugins.names import *; from nfrepro.plugins.sources import source_of; "
        f"search_in([{str(tmp_path)!r}]); "
        "check_options('own_light:make', {'depth': 1}, Call(named=('num_classes',))); "
        "check_name('timm:create_model'); source_of(['own_light:make', 'timm:x']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
