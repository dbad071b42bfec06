"""Text of others on a terminal, and standard streams that nobody reads."""

import contextlib
import json
import os
import pty
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_this_process import nfrepro_here
from rich.live import Live
from tiny_experiment import TINY, Call, command

from nfrepro.cli.screen import Screen, table_lines, words
from nfrepro.runs import store
from nfrepro.specs import expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS
from nfrepro.terminal import one_line, printable, take_streams

PACKAGE = Path(__file__).parents[2] / "nfrepro"
HERE = ("tiny", "--scale", "smoke")
# Clears the screen, sets its title, goes back in the line, ends it (C0, C1), turns its direction.
HOSTILE = "\x1b[2J\x1b]0;title\x07 back\b\r nul\x00 next\x85 csi\x9b31m order\u202eredro"
SHOWN = r"\x1b[2J\x1b]0;title\x07 back\x08\r nul\x00 next\x85 csi\x9b31m order\u202eredro"


@given(st.text())
def test_printable_text_has_no_control_character_but_ends_of_lines_and_tabs(text: str) -> None:
    assert not [c for c in printable(text) if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t"]
    assert printable(printable(text)) == printable(text)
    assert [one_line(line) for line in text.split("\n")] == printable(text).replace("\t", r"\t").split("\n")


@pytest.fixture
def hostile(experiments: Path, results: Path) -> str:
    """The experiment with a title, and a failed run with an error, that would control the terminal; the run's id."""
    (experiments / "tiny.yaml").write_text(TINY.replace("a very small experiment", json.dumps(HOSTILE)))
    run = expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)[0]
    folder = store.run_folder(results, run)
    folder.mkdir(parents=True)
    record = {"version": store.RECORD_VERSION, **store.description_of(run), "status": "failed", "error": HOSTILE}
    record |= {"started": "", "finished": "", "executions": 1, "final": None, "provenance": {}}
    store.write_record(folder, record)
    store.write_error(folder, f"Traceback\n{HOSTILE}\n")
    return run.id


def test_verbs_show_control_characters_escaped(
    hostile: str, experiments: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NFREPRO_EXPERIMENTS", str(experiments))
    monkeypatch.setenv("NFREPRO_RESULTS", str(results))
    nfrepro, weights = nfrepro_here, experiments / f"{HOSTILE.replace(chr(0), '')}.pt"
    calls = {
        "list": nfrepro("list"),
        "logs": nfrepro("logs", HERE[0], hostile, *HERE[1:]),
        "convert": nfrepro("convert", str(weights), "x.pt"),
        "evaluate": nfrepro("evaluate", "--weights", str(weights), "--data", str(weights)),
        "expand": nfrepro("expand", *HERE, "--set", f"model.activation={weights.stem}"),
        "spp": nfrepro("spp", weights.stem),
        "wrong option": nfrepro("list", f"--{weights.stem}"),
    }
    for verb, called in calls.items():
        said = called.stdout + called.stderr
        assert said == printable(said), verb
        assert r"\x1b[2J" in said, verb
        assert "Traceback" not in called.stderr, verb
    for verb in ("list", "logs"):
        assert SHOWN in calls[verb].stdout
    for verb in ("convert", "evaluate", "expand", "spp", "wrong option"):
        assert (calls[verb].returncode, calls[verb].stderr.count("\n")) == (2, 1), verb


def test_json_stays_json(hostile: str, nfrepro: Call, experiments: Path) -> None:
    (experiments / "tiny.yaml").write_text(TINY.replace("a very small experiment", json.dumps(f"{HOSTILE}\x7f")))
    assert json.loads(nfrepro("list", "--json").stdout)[0]["title"] == f"{HOSTILE}\x7f"


def all_that_came(master: int) -> str:
    """The text on a terminal whose other end is closed; one read may return the beginning alone."""
    pieces = []
    with contextlib.suppress(OSError):  # the end
        while piece := os.read(master, 65536):
            pieces.append(piece)
    os.close(master)
    return b"".join(pieces).decode()


def test_a_live_display_controls_the_terminal_and_texts_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    with open(slave, "w") as terminal:
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, terminal)
        monkeypatch.setenv("TERM", "xterm")
        take_streams()
        screen = Screen(width=200)
        with Live(words(HOSTILE, style="yellow"), console=screen, auto_refresh=False):
            screen.print(f"[red]{HOSTILE}", words(HOSTILE))
            print(HOSTILE)
        print(HOSTILE)
    said = all_that_came(master)
    assert "\x1b[33m" in said  # yellow
    assert "[red]" in said
    assert said.count(SHOWN) >= 3
    assert r"\x1b[33m" not in said
    assert not [sequence for sequence in ("\x1b[2J", "\x1b]", "\x07", "\x9b", "\u202e") if sequence in said]


def test_nothing_draws_on_a_terminal_but_by_the_screen() -> None:
    users = {path.name for path in PACKAGE.rglob("*.py") if "rich.console import Console" in path.read_text()}
    assert users == {"screen.py"}


def said_to_nobody(call: tuple[list[str], dict[str, str]], redirection: str) -> "subprocess.CompletedProcess[str]":
    """Calls a command by a shell, with a redirection such as `>&-`."""
    line, environment = call
    shell = ["bash", "-c", f'"$@" {redirection}', "bash", *line]
    return subprocess.run(shell, env=environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize(
    ("verb", "redirection", "status", "complaint"),
    [
        ("list", ">&-", 0, ""),
        ("list", "2>&-", 0, ""),
        ("list", ">&- 2>&- <&-", 0, ""),
        ("list", ">/dev/full", 1, "nfrepro: standard output: No space left on device: mend this and start again\n"),
        ("list", ">/dev/full 2>/dev/full", 1, ""),
        ("expand no", "2>&-", 2, ""),
        ("expand no", "2>/dev/full", 2, ""),
    ],
)
def test_a_closed_or_full_stream_is_no_traceback(
    verb: str, redirection: str, status: int, complaint: str, experiments: Path, results: Path
) -> None:
    called = said_to_nobody(command(experiments, results, verb.split()), redirection)
    assert (called.returncode, called.stderr) == (status, complaint)


def test_a_reader_that_has_left_ends_a_list_without_a_word(experiments: Path, results: Path) -> None:
    assert unread(command(experiments, results, ["list"])) == (141, "")


@pytest.mark.parametrize("redirection", ["| true", ">/dev/full 2>&-"])
def test_a_sweep_keeps_its_results_when_nobody_reads(redirection: str, experiments: Path, results: Path) -> None:
    call = command(experiments, results, ["sweep", *HERE])
    said_to_nobody(call, redirection)
    records = [json.loads(path.read_text()) for path in results.glob("runs/*/run.json")]
    assert [record["status"] for record in records] == ["completed"] * 4
    assert unread(call) == (0, "")  # all of it is done


def unread(call: tuple[list[str], dict[str, str]]) -> tuple[int, str]:
    """Status and complaints of a command whose standard output is a pipe that nobody reads."""
    line, environment = call
    reader, writer = os.pipe()
    os.close(reader)
    called = subprocess.run(
        line, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=600, check=False
    )
    os.close(writer)
    return called.returncode, called.stderr


CELL = st.text(st.characters(codec="latin-1") | st.sampled_from("\u202e漢字α…"))


@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1), st.integers(20, 200))
def test_a_table_loses_nothing_at_any_width(rows: list[tuple[str, str, str]], width: int) -> None:
    lines = table_lines(rows)
    assert [line.split() for line in lines] == [one_line(" ".join(row)).split() for row in rows]
    folded = "".join("".join(table_lines(rows, {1}, width)).split())
    assert sorted(folded) == sorted("".join("".join(lines).split()))
