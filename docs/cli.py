"""Writes every verb of `nfrepro` with its options into docs/cli.md, from the help texts."""

from pathlib import Path

import typer.main

from nfrepro import atomic
from nfrepro.cli import app

PAGE = Path(__file__).with_name("cli.md")
BEGIN, END = "<!-- written by docs/cli.py -->\n", "<!-- end -->\n"
COLUMNS = 120


def verbs() -> str:
    """A heading and the help of each verb."""
    group = typer.main.get_command(app)
    context = group.make_context("nfrepro", [], resilient_parsing=True)
    parts = []
    for name in group.list_commands(context):  # type: ignore[attr-defined]
        command = group.get_command(context, name)  # type: ignore[attr-defined]
        inner = command.context_class(command, info_name=name, parent=context, max_content_width=COLUMNS)
        inner.terminal_width = COLUMNS
        parts.append(f"### nfrepro {name}\n```text\n{command.get_help(inner).strip()}\n```\n")
    return "\n".join(parts)


def page() -> str:
    """The page with the current verbs."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    return before + BEGIN + verbs() + END + rest.split(END, 1)[1]


if __name__ == "__main__":
    atomic.write_text(PAGE, page())
