"""Tables of sweeps with overrides: readable names, and never one for two."""

import re

from hypothesis import given
from hypothesis import strategies as st

from nfrepro.runs.table import overrides_suffix

KEYS = st.sampled_from(["seed", "train.lr", "model.blocks", "a", "b"])
VALUES = st.text(alphabet="ab=-_.~/[]1, éé", max_size=6)
OVERRIDES = st.lists(st.builds("{}={}".format, KEYS, VALUES) | st.text("ab=-_/", min_size=1, max_size=50), max_size=3)


def test_plain_ones_are_spelt_out() -> None:
    assert overrides_suffix([]) == ""
    assert overrides_suffix(["train.lr=1e-3", "seed=0"]) == "-seed=0-train.lr=1e-3"


def test_pairs_that_shared_a_name() -> None:
    pairs = [
        (["data.folder=a/b"], ["data.folder=a_b"]),
        (["model.blocks=[1,1]"], ["model.blocks=(1,1)"]),
        (["a=1-b=2"], ["a=1", "b=2"]),
        (["data.folder=" + 200 * "x"], ["data.folder=" + 201 * "x"]),
        (["a=é"], ["a=e\u0301"]),
    ]
    for one, other in pairs:
        assert overrides_suffix(one) != overrides_suffix(other)


@given(OVERRIDES, OVERRIDES)
def test_different_overrides_never_share_a_name(one: list[str], other: list[str]) -> None:
    assert (overrides_suffix(one) == overrides_suffix(other)) == (sorted(one) == sorted(other))


@given(OVERRIDES)
def test_a_name_is_a_file_name(overrides: list[str]) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.=~-]{0,100}", overrides_suffix(overrides))
