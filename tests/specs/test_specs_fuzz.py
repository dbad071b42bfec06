"""Whatever a file holds, it gives runs or an InputError of one line."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nfrepro.errors import InputError
from nfrepro.specs import expand, load_experiment

VALID = b"""\
title: All there is \xc3\xa4
claims: [C16, C35]
task: train
set:
  model: {name: nf_resnet, depth: 50, alpha: 0.2}
  train: &train {epochs: 3, lr: 1e-3, nesterov: true}
grid:
  model.alpha: [0.05, 0.1]
  seed: [0, 1, 2]
zip:
  train.batch_size: [128, 256]
  train.decay: [0.1, auto]
arms:
  bn: {set: {model.depth: 26}}
  nf:
    set: {train: *train}
    scales: {full: {grid: {seed: [7]}}}
scales:
  full: {set: {train.epochs: 1}}
  smoke:
"""
TOKENS = [
    *"&*![]{}:,-?|>'\"#%@`\t\n \\0\0.=<",
    ": ",
    "- ",
    "<<: ",
    "*train",
    "&train ",
    "!!int ",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "? ",
    '"\\x',
    "1e999",
    "010",
    "9" * 5000,
    "[" * 50,
    "- " * 50,
    "a." * 50,
    "\ufeff",
    "\u2028",
    "\x85",
    "null",
    "true",
]
WORDS = [line for line in VALID.decode().replace(":", "\n").split("\n") if line.strip()]

FUZZ = settings(database=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def survives(write, schemas):
    def load(content: bytes, *overrides: str) -> int:
        write(content)
        try:
            return len(expand(load_experiment("x", Path("experiments")), "full", schemas, overrides))
        except InputError as error:
            line = str(error)
        assert line
        assert line.isprintable()
        return 0

    return load


def test_the_valid_file_is_valid(survives):
    assert survives(VALID) == 6 * 2 + 2 * 2


@FUZZ
@given(st.text() | st.lists(st.sampled_from(TOKENS + WORDS)).map("".join))
def test_any_text(survives, text):
    survives(text.encode("utf-8", "surrogatepass"))


@FUZZ
@given(st.binary())
def test_any_bytes(survives, content):
    survives(content)


@FUZZ
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(VALID)),
            st.integers(0, 12),
            st.binary(max_size=4) | st.sampled_from(TOKENS).map(str.encode),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_mutated_bytes_of_a_valid_file(survives, edits):
    content = VALID
    for start, length, inserted in edits:
        content = content[:start] + inserted + content[start + length :]
    survives(content)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["model", "train", "set", "grid", "seed", "model.alpha", "train.lr", "full", "zip", "name"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
SECTIONS = st.sampled_from(["set", "grid", "zip", "include", "arms", "scales", "extends", "claims", "task"])


@FUZZ
@given(SECTIONS, VALUES)
def test_any_value_for_a_section(survives, section, value):
    """JSON is YAML: the section replaced by a value of any shape."""
    lines = ["task: train", "set: {model.name: nf_resnet, train.epochs: 1}", "scales: {full: }"]
    kept = [line for line in lines if not line.startswith(f"{section}:")]
    survives("\n".join([*kept, f"{section}: {json.dumps(value)}"]).encode())


@FUZZ
@given(st.text(), st.sampled_from(["", "seed=", "model.alpha=", "model=", "train.decay=", "a.b="]))
def test_any_override(survives, text, key):
    survives(VALID, key + text)
