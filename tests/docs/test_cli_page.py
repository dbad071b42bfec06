"""docs/cli.md has every verb with every option of it, and nothing that is no verb."""

import re
from pathlib import Path

import typer.main

from nfrepro.cli import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cli.md").read_text()
FLAG = re.compile(r"(?<![\w-])--?[a-z][\w-]*")


def test_every_verb_and_option_is_on_the_page() -> None:
    group = typer.main.get_command(app)
    context = group.make_context("nfrepro", [], resilient_parsing=True)
    verbs = group.list_commands(context)  # type: ignore[attr-defined]
    sections = dict(re.findall(r"### nfrepro (\S+)\n```text\n(.*?)```", PAGE, flags=re.DOTALL))
    assert list(sections) == verbs, "run `python docs/cli.py`"
    for verb in verbs:
        command = group.get_command(context, verb)  # type: ignore[attr-defined]
        said = re.sub(r"\s+", " ", sections[verb])
        for parameter in command.params:
            for name in [name for name in parameter.opts if name.startswith("--")]:
                assert re.search(rf"{name}\b", said), f"{verb} {name}: run `python docs/cli.py`"
            text = re.sub(r"\s+", " ", getattr(parameter, "help", None) or "")
            assert text in said, f"{verb} {parameter.name}: run `python docs/cli.py`"
        lines = re.findall(r"^  (-.*?)(?:  |$)", sections[verb], flags=re.MULTILINE)
        shown = {name for line in lines for name in FLAG.findall(line)}
        has = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert shown - has <= {"--help"}, f"{verb} has no such option: run `python docs/cli.py`"


def test_every_command_of_the_tables_is_a_verb_or_a_target() -> None:
    verbs = re.findall(r"### nfrepro (\S+)", PAGE)
    for document in ("README.md", "docs/cli.md"):
        text = (ROOT / document).read_text()
        for verb in re.findall(r"`\.venv/bin/nfrepro ([a-z-]+)", text):
            assert verb in verbs or verb == "--help", f"{document}: {verb}"
