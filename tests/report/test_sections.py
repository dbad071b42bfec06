"""Sections: every stored claim has one, and it is the one that its source names first."""

from pathlib import Path

import pytest

from nfrepro.claims.file import load_claims
from nfrepro.report.sections import place, section_of
from nfrepro.tasks.registry import SCHEMAS

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("section 3, figure 1 (c)", "section-3"),
        ("section 4.2, the formula of Scaled WS", "section-4-2"),
        ("figure 2", "section-4-2"),
        ("section 4.1; their second paper (arXiv 2102.06171)", "section-4"),
        ("section 4 of their second paper (arXiv 2102.06171), on this one", "second-paper"),
        ("figure 2 a of their second paper (arXiv 2102.06171); table 1", "second-paper"),
        ("section 4.1 and figure 2 a of their second paper (arXiv 2102.06171)", "second-paper"),
        ("table 1; figure 2 a of their second paper (arXiv 2102.06171)", "section-5"),
        ("appendix D; the authors' code", "authors-code"),
        ("a control of ours, not in arXiv 1805.11604", "smoothness"),
        ("arXiv 2002.10444, section 2; section 4 of the paper", "skipinit"),
        ("nowhere <b>", "elsewhere"),
    ],
)
def test_the_section_is_the_one_that_the_source_names(source: str, key: str) -> None:
    assert section_of(source).key == key


def test_sections_have_an_order() -> None:
    sections = {section_of(claim.form.source) for claim in load_claims(EXPERIMENTS, SCHEMAS)}
    assert len({place(section) for section in sections}) == len(sections) > 8
