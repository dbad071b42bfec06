"""Claims and results are the text of others: in the report they are text, whatever they hold."""

from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from small_study import CLAIMS, EXPERIMENT, PNG, Study

from nfrepro.report.claims_json import claims_json
from nfrepro.report.markdown import escaped, markdown
from nfrepro.report.page import page
from nfrepro.report.verdicts_picture import verdicts_picture

SCRIPT = "<script>alert(1)</script>"
SPOILED = f'{SCRIPT} \\" onload=x <img src=http://evil.example/x onerror=y> | `code` ]( ![a](b) ${{7*7}} {{{{7*7}}}}'
RENDERER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


class Elements(HTMLParser):
    """All elements with their attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def spoiled(study: Study) -> Study:
    """Each text of a claim, of an experiment and of a table is hostile."""
    text = CLAIMS
    for word in ("x is small, always", "section 2", "at the largest alpha", "alpha is too large", "a smaller alpha"):
        text = text.replace(word, f'"{SPOILED}"')
    text = text.replace("stated_by: somebody", f'stated_by: "{SPOILED}"').replace("The paper (ICLR 2021)", SPOILED)
    text = text.replace("there are no data", f'"{SPOILED}"').replace('paper: "0.5"', f'paper: "{SPOILED}"')
    study.claims(text)
    (study.experiments / "study.yaml").write_text(EXPERIMENT.replace("A small study", f'"{SPOILED}"'))
    study.table(**{"a1.0s0": {"id": SPOILED.replace('\\"', ""), "x": None}})
    study.figure(PNG + SCRIPT.encode())
    return study


def test_the_page_has_no_element_that_is_not_its_own(study: Study, spoiled: Study) -> None:
    shown = Elements(page(spoiled.read()))
    assert not {tag for tag, _ in shown.elements} & {"script", "iframe", "object", "link", "form", "base"}
    for _, attributes in shown.elements:
        assert not [name for name in attributes if name.startswith("on")]
    sources = [attributes["src"] for tag, attributes in shown.elements if tag == "img"]
    assert [str(source).split(",")[0] for source in sources] == ["data:image/png;base64"]
    assert shown.text.count(SCRIPT) >= 9
    assert "{{7*7}}" in shown.text  # no template in it was executed


def test_the_markdown_has_no_markup_that_is_not_its_own(spoiled: Study) -> None:
    tokens: list[Any] = RENDERER.parse(markdown(spoiled.read()))
    inline = [child for token in tokens for child in token.children or ()]
    assert {token.content for token in [*tokens, *inline] if "html" in token.type} <= {"<br>"}
    images = [token.attrs["src"] for token in inline if token.type == "image"]
    links = [token.attrs["href"] for token in inline if token.type == "link_open"]
    assert images == ["verdicts.svg"]
    own = {"report.html", "claims.json"}
    assert {link for link in links if not link.startswith("#")} == {"study/laptop/study.png", *own}
    assert sum(token.content.count(SCRIPT) for token in inline if token.type == "text") >= 9
    assert "<script" not in claims_json(spoiled.read()).replace(SCRIPT, "")


def test_control_characters_are_shown_escaped(study: Study) -> None:
    text = CLAIMS.replace("x is small, always", r'"\e[2J\a order\u202eredro"').replace(
        "there are no data", r'"\e]0;t\N"'
    )
    study.claims(text)
    (study.experiments / "study.yaml").write_text(EXPERIMENT.replace("A small study", r'"\e[2J"'))
    report = study.read()
    for shown in (page(report), markdown(report), verdicts_picture(report)):
        assert r"\x1b[2J\x07 order\u202eredro" in shown.replace("\\[", "[")
        assert not [c for c in shown if not c.isprintable() and c not in "\n\t"]


MARKS = st.sampled_from("\\`*_[]()<>|~$#+-=!&.1a \n:/")


@settings(max_examples=500)
@given(st.text(MARKS | st.characters(exclude_categories=("Cc", "Cs"))))
def test_escaped_text_reads_as_it_was_written(text: str) -> None:
    (paragraph, *_), wanted = RENDERER.parseInline(f"a {escaped(text)}"), " ".join(text.split())
    shown = "".join(child.content for child in paragraph.children or () if child.type in ("text", "text_special"))
    assert shown.rstrip() == f"a {wanted}".rstrip()
    assert all(token.type in ("paragraph_open", "inline", "paragraph_close") for token in RENDERER.parse(escaped(text)))
