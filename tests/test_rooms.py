"""The architecture: no package imports one above it, only the command line prints, and CONTRIBUTING says the same."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nfrepro"
GROUND = {"errors", "options", "seeding", "atomic", "malloc", "terminal"}
# A room that every other one may import from, as it may the files above.
SHARED_ROOM = "plugins"
# Room -> rooms it may import from. Inside a job, launch executes tasks, and joins the processes that train together.
MAY_IMPORT = {
    "plugins": set(),
    "signal": set(),
    "models": {"signal"},
    "data": set(),
    "training": {"models", "data"},
    "tasks": {"signal", "models", "data", "training"},
    "specs": set(),
    "runs": {"specs"},
    "stats": set(),
    "claims": {"specs", "runs", "stats"},
    "plots": {"runs", "stats", "claims"},
    "report": {"specs", "runs", "stats", "claims", "plots"},
    "launch": {"specs", "runs", "tasks", "training"},
    "project": set(),
    "cost": {"specs", "runs", "data", "tasks", "training", "launch"},
    "bench": {"signal", "models", "data", "training", "tasks", "specs", "runs", "stats", "claims", "launch", "cost"},
    "cli": {
        *("signal", "models", "data", "training", "tasks", "specs", "runs", "stats", "claims", "plots", "report"),
        *("launch", "project", "cost", "bench"),
    },
}
PRINTS = {"cli", "bench"}
CODE = [*PACKAGE.rglob("*.py"), *PACKAGE.parent.glob("analysis/*.py"), *PACKAGE.parent.glob("docs/*.py")]
MOST_LINES_OF_A_FILE, MOST_LINES_OF_A_FUNCTION = 400, 50  # of statements, signature and docstring left out
TORCH_FREE = ("plugins", "specs", "runs", "stats", "claims", "plots", "report", "launch")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_no_import_runs_upward(room: str) -> None:
    files = list((PACKAGE / room).rglob("*.py"))
    assert files
    for path in files:
        for name in imports(path):
            parts = name.split(".")
            known = GROUND | MAY_IMPORT[room] | {SHARED_ROOM, room}
            if parts[0] == "nfrepro" and len(parts) > 1 and parts[1] not in known:
                pytest.fail(f"{path.relative_to(PACKAGE)} imports {name}")


def test_every_room_is_on_the_plan() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(MAY_IMPORT)


def test_nothing_below_the_command_line_prints() -> None:
    # plots/script.py is the front of the analysis scripts, as cli is of the package; bench/gpu_check has its own.
    for path in PACKAGE.glob("*/**/*.py"):
        if path.name == "script.py" or path.relative_to(PACKAGE).parts[0] in PRINTS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                pytest.fail(f"{path.relative_to(PACKAGE)}:{node.lineno} prints")


def test_the_table_of_contributing_is_this_plan() -> None:
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text()
    said = {}
    for room, may_import in re.findall(r"^\| `(\w+)/` \| .* \| ([^|]*) \|$", text, flags=re.MULTILINE):
        named = set(re.findall(r"`(\w+)`", may_import))
        said[room] = set(MAY_IMPORT) - {SHARED_ROOM, room} if may_import == "all" else named
    assert said == MAY_IMPORT
    shared = re.search(r"^(.*)are shared code", text, flags=re.MULTILINE)
    assert shared is not None
    assert set(re.findall(r"`(\w+)\.py`", shared.group(1))) == GROUND


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_a_file_has_one_subject_and_a_function_fits_a_screen(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES_OF_A_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            documented = ast.get_docstring(node) is not None
            statements = node.body[1:] if documented else node.body
            lines = statements[-1].end_lineno - statements[0].lineno + 1 if statements else 0
            assert lines <= MOST_LINES_OF_A_FUNCTION, f"{node.name}: {lines} lines"


@pytest.mark.parametrize("room", TORCH_FREE)
def test_rooms_without_torch(room: str) -> None:
    """They are imported by every command, also by those that only read."""
    files = [path for path in (PACKAGE / room).rglob("*.py") if not path.name.startswith("__")]
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files]
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, check=False).returncode == 0
