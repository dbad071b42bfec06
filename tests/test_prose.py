"""Prose of the code: docstrings that can be read by themselves, in plain words."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [*ROOT.glob("nfrepro/**/*.py"), *ROOT.glob("analysis/*.py"), *ROOT.glob("docs/*.py")]
# A docstring that begins with one of these needs the name above it to be a sentence.
OPENING = re.compile(r"(Of|What|As|Who|Whoever) ")
WORDS = re.compile(r"\b(so many|so long|stands|beside|anew|whoever)\b", re.IGNORECASE)


def docstrings(text: str) -> list[tuple[int, str]]:
    """Line and text of each."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    found = [(node, ast.get_docstring(node)) for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return [(node.body[0].lineno, documented) for node, documented in found if documented]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_and_comments_are_plain_english(path: Path) -> None:
    text = path.read_text()
    for line, documented in docstrings(text):
        assert not OPENING.match(documented), f"line {line} begins as a fragment: {documented.splitlines()[0]}"
        assert not (found := WORDS.search(documented)), f"line {line}: {found.group()}"
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            assert not (found := WORDS.search(token.string)), f"line {token.start[0]}: {token.string}"
