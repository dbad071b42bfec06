"""The page: complete in itself, well formed, and fit for a phone."""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from small_study import Study

from nfrepro.report.page import page

STORED = Path(__file__).parents[2] / "results" / "report.html"
EMPTY = {"meta", "img", "br", "rect", "line", "circle", "path"}
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
MOST_BYTES = 4_000_000


class Page(HTMLParser):
    """Elements with attributes and the elements around them; complains where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self._open: list[tuple[str, str]] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes, tuple(f"{name}.{kind}" for name, kind in self._open)))
        if tag not in EMPTY:
            self._open.append((tag, attributes.get("class") or ""))

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self._open.pop()[0] == tag


@pytest.fixture(params=["small", "stored"])
def text(request: pytest.FixtureRequest, study: Study) -> str:
    return page(study.read()) if request.param == "small" else STORED.read_text(encoding="utf-8")


def test_it_needs_nothing_else(text: str) -> None:
    shown = Page(text)
    for tag, attributes, _ in shown.elements:
        assert tag not in ("script", "link", "iframe", "object"), tag
        for name in ("src", "href", "action", "data", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), f"{tag} {name}: {value:.60}"
    assert not re.search(r"url\(|@import", re.sub(r'src="[^"]*"', "", text))
    (policy,) = (a["content"] for _, a, _ in shown.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert len(text.encode()) < MOST_BYTES


def test_it_is_well_formed(text: str) -> None:
    elements = Page(text).elements
    ids = Counter(attributes["id"] for _, attributes, _ in elements if "id" in attributes)
    assert [name for name, count in ids.items() if count > 1] == []
    targets = {str(attributes["href"])[1:] for tag, attributes, _ in elements if tag == "a"}
    assert targets <= ids.keys()
    assert all(attributes.get("alt") for tag, attributes, _ in elements if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes, _ in elements if tag == "svg")
    tags = Counter(tag for tag, _, _ in elements)
    assert (tags["h1"], tags["main"], tags["title"]) == (1, 1, 1)
    assert ("html", {"lang": "en"}, ()) in elements


def test_wide_things_scroll_in_their_own_box(text: str) -> None:
    for tag, _, ctx in Page(text).elements:
        assert tag != "table" or ctx[-1] == "div.scrolls"
    style = text[: text.index("</style>")]
    assert ".scrolls { overflow-x: auto; }" in style
    assert "overflow-wrap: anywhere" in style
    assert re.search(r"figure img \{[^}]*max-width: 100%", style)
    assert "prefers-color-scheme: dark" in style


def test_every_claim_has_a_card_with_verdict_picture_and_command(study: Study) -> None:
    text = page(study.read())
    card = r'<details class="card is-([a-z-]+)(?: at-\w+)?" id="(\w+)">(.*?)(?=<details class="card|</section>)'
    cards = re.findall(card, text, flags=re.DOTALL)
    verdicts = {name: (verdict, body) for verdict, name, body in cards}
    assert {name: verdict for name, (verdict, _) in verdicts.items()} == {
        "C01": "supported", "C02": "contradicted", "C03": "inconclusive", "C04": "not-run", "W01": "not-run"
    }  # fmt: skip
    for name, drawn in (("C01", 1), ("C02", 2), ("C03", 1), ("C04", 0), ("W01", 0)):
        assert verdicts[name][1].count('class="picture"') == drawn
    assert "✗ contradicted in part (1 of 2)</span> at scale laptop" in verdicts["C02"][1]
    commands = "<code>make sweep EXP=study SCALE=laptop</code>, then <code>make claims SCALE=laptop</code>"
    assert commands in verdicts["C01"][1]
    assert '<a href="#study-laptop">study</a>' in verdicts["C01"][1]
    assert 'class="card is-not-run" id="C04"' in text  # without tests it is shown at no scale
    for verdict in ("supported", "contradicted", "inconclusive", "not-testable", "fact", "not-run"):
        assert f"body:has(#show-{verdict}:checked) .card:not(.is-{verdict})" in text
        assert f"body:has(#show-{verdict}:checked) .group:not(:has(.is-{verdict}))" in text
        assert f'id="show-{verdict}"' in text


def test_each_figure_is_in_it_once() -> None:
    sources = re.findall(r'<img [^>]*src="([^"]*)"', STORED.read_text(encoding="utf-8"))
    assert sources
    assert len(sources) == len(set(sources))


def test_it_begins_with_the_answer_and_one_line_for_each_claim(study: Study) -> None:
    text = page(study.read())
    before_the_claims = text[: text.index('<h2 id="claims">')]
    assert "Of 5 claims: 1 supported, 1 contradicted, 1 inconclusive and 2 not run." in before_the_claims
    rows = re.findall(r'<a class="row" href="#(\w+)">.*?aria-label="([^"]*)"', before_the_claims, flags=re.DOTALL)
    said = dict(rows)
    assert sorted(said) == ["C01", "C02", "C03", "C04", "W01"]
    # (1 - 0.51) / 0.02484 of C01, (2.01 - 1) / 0.02484 of C02 and 0.3333 / 1.898 of C03.
    assert said["C01"] == "supported: within the rule by 19.7 half-widths of its interval"
    assert said["C02"] == "contradicted: outside the rule by 40.7 half-widths of its interval"
    assert said["C03"] == "inconclusive: within the rule by 0.2 half-widths of its interval"
    assert said["C04"] == said["W01"] == "not run"


LOADED = """<iframe src="{page}" style="width:{width}px;height:800px;border:0" onload="
  const shown = this.contentDocument;
  const cards = () => [...shown.querySelectorAll('.card')].filter(card => card.getBoundingClientRect().height > 0);
  {script}
"></iframe>"""
MEASURED = """
  const whole = [...shown.images].every(image => image.complete && image.naturalWidth > 0);
  const beyond = shown.documentElement.scrollWidth - shown.documentElement.clientWidth;
  document.title = [beyond, shown.images.length, whole, shown.documentElement.scrollHeight].join(' ');
"""
CHOSEN = """
  const chosen = shown.getElementById('show-contradicted');
  chosen.selected = true;
  document.title = cards().map(card => card.className.split(' ')[1]).filter((name, n, all) => all.indexOf(name) == n);
"""
OPENED = """
  const card = shown.getElementById('C01');
  document.title = [card.offsetHeight > 100, cards().filter(card => card.offsetHeight > 100).length].join(' ');
"""


@pytest.fixture
def title(tmp_path: Path) -> Callable[..., str]:
    """The title that a script gives to a page around the stored one, in a browser."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser: there is none of {', '.join(BROWSERS)}")

    def shown(script: str, width: int = 1280, anchor: str = "") -> str:
        outer = tmp_path / "outer.html"
        outer.write_text(LOADED.format(page=STORED.as_uri() + anchor, width=width, script=script))
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
        line = [browser, *options, "--virtual-time-budget=20000", outer.as_uri()]
        called = subprocess.run(line, capture_output=True, text=True, check=True)
        (found,) = re.findall(r"<title>(.*?)</title>", called.stdout)
        return str(found)

    return shown


@pytest.mark.slow
@pytest.mark.parametrize(("width", "screens"), [(360, 40), (1280, 12)])
def test_a_browser_shows_it_without_scrolling_sideways(title: Callable[..., str], width: int, screens: int) -> None:
    beyond, images, whole, height = title(MEASURED, width).split()
    expected = STORED.read_text(encoding="utf-8").count("<img ")
    assert (beyond, images, whole) == ("0", str(expected), "true")
    assert int(height) <= 800 * screens


@pytest.mark.slow
def test_a_browser_shows_the_claims_of_the_chosen_verdict_only(title: Callable[..., str]) -> None:
    assert title(CHOSEN) == "is-contradicted"


@pytest.mark.slow
def test_a_browser_opens_the_card_that_a_link_leads_to(title: Callable[..., str]) -> None:
    assert title(OPENED, anchor="#C01") == "true 1"
