"""The picture of all verdicts: well-formed, complete, and nothing lies over anything else."""

from xml.etree import ElementTree

from small_study import Study

from nfrepro.report.verdicts_picture import LINE, shortened, verdicts_picture

SVG = "{http://www.w3.org/2000/svg}"


def test_each_claim_has_a_line_of_its_own(study: Study) -> None:
    root = ElementTree.fromstring(verdicts_picture(study.read()))
    ids = [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "id"]
    assert sorted(map(str, ids)) == ["C01", "C02", "C03", "C04", "W01"]
    places = [group.get("transform") or "" for group in root if any(text.get("class") == "id" for text in group)]
    corners = [tuple(map(int, place.removeprefix("translate(").rstrip(")").split())) for place in places]
    height = float(str(root.get("height")))
    assert all(y + LINE <= height for _, y in corners)
    for x, y in corners:
        assert sum(x == other_x and abs(y - other_y) < LINE for other_x, other_y in corners) == 1


def test_the_shape_of_a_mark_tells_its_verdict(study: Study) -> None:
    root = ElementTree.fromstring(verdicts_picture(study.read()))
    shapes = {str(mark.get("class")): mark.tag.removeprefix(SVG) + (mark.get("d") or "")[-2:] for mark in root.iter()
              if str(mark.get("class")).startswith("mark")}  # fmt: skip
    assert set(shapes) == {"mark supported", "mark contradicted", "mark inconclusive", "mark not-run"}
    assert len({shapes[f"mark {name}"] for name in ("supported", "contradicted", "inconclusive")}) == 3


def test_long_statements_are_cut_between_words() -> None:
    assert shortened("x is small") == "x is small"
    cut = shortened("word " * 20)
    assert cut.endswith("word …")
    assert len(cut) < 40
