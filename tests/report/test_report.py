"""The report on a small study: verdicts, numbers, gaps, and that the same results give the same bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from small_study import CLAIMS, PNG, Study, build

from nfrepro.errors import InputError
from nfrepro.report.claims_json import claims_json
from nfrepro.report.markdown import markdown
from nfrepro.report.page import page
from nfrepro.report.writing import write_report

HERE = Path(__file__).parent
FILES = ("claims.json", "REPORT.md", "report.html", "verdicts.svg")


def claim(study: Study, name: str, scale: str = "laptop") -> dict[str, Any]:
    found = json.loads(claims_json(study.read()))["claims"]
    return next(claim for claim in found if (claim["id"], claim["scale"]) == (name, scale))


def test_files_are_as_ever(study: Study) -> None:
    """golden.json and golden.md, which a change of the format has to bring up to date."""
    report = study.read()
    assert claims_json(report) == (HERE / "golden.json").read_text(encoding="utf-8")
    assert markdown(report) == (HERE / "golden.md").read_text(encoding="utf-8")


def test_numbers_are_those_of_the_runs(study: Study) -> None:
    found = claim(study, "C03")
    differences = [1.0, 0.5, -0.5]  # of y, seed by seed
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    p = stats.ttest_1samp(differences, 0, alternative="greater").pvalue
    assert (found["verdict"], found["n"]) == ("inconclusive", 3)
    assert (found["estimate"], found["interval"]) == (0.3333333333, pytest.approx([low, high], rel=1e-9))
    assert found["tests"][0]["p"] == pytest.approx(p, rel=1e-9)
    for text in (markdown(study.read()), page(study.read())):
        assert f"[{low:.4g}, {high:.4g}]" in text.replace("\\", "")


def test_verdicts_of_every_kind_are_counted_by_scale(study: Study) -> None:
    study.table("gpu", **{f"a1.0s{seed}": {"x": 0.4 + 0.01 * seed} for seed in range(3)})
    study.table("smoke")
    report = study.read()
    assert report.scales == ("laptop", "gpu")
    assert report.tally() == {"supported": 2, "inconclusive": 1, "not run": 2}
    assert report.tally("laptop") == {}  # what has no tests is judged at no scale
    assert report.tally("gpu") == {"supported": 2, "inconclusive": 1, "not run": 1}
    text = markdown(report)
    best = "### C02\n**✓ supported** at scale gpu (2 of 2 tests supported): x is small, always\n"
    # The scale that is not the best stands below.
    assert text.index(best) < text.index("- Otherwise: **✗ contradicted in part (1 of 2)** at scale laptop: 2.01 [")
    assert [name for name, _ in report.series] == ["The paper (ICLR 2021)", "W"]


def test_an_explanation_stands_beside_its_own_verdict_only(study: Study) -> None:
    assert "alpha is too large" in markdown(study.read())
    assert study.read().unexplained() == ["C03 (laptop)"]
    assert "Likely reason: Not written yet." in markdown(study.read())
    study.claims(CLAIMS.replace("verdict: contradicted", "verdict: inconclusive"))
    report = study.read()
    assert report.unexplained() == ["C02 (laptop)", "C03 (laptop)"]
    assert "alpha is too large" not in markdown(report) + page(report) + claims_json(report)


def test_what_would_settle_it_is_reckoned(study: Study) -> None:
    cards = {card.id: card.readings[0] for card in study.read().cards}
    assert cards["C03"].settled_by == ("The same question at scale gpu: make sweep EXP=study SCALE=gpu.",)
    assert cards["C02"].settled_by == (
        "a smaller alpha.",
        "At this scale it is settled, beyond chance.",
        "The same question at scale gpu: make sweep EXP=study SCALE=gpu.",
    )
    assert cards["C01"].settled_by == cards["C04"].settled_by == ()
    assert [finding.verdict for finding in cards["C02"].findings] == ["contradicted", "supported"]
    assert cards["C02"].commands == ("make sweep EXP=study SCALE=laptop", "make claims SCALE=laptop")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": "failed", "x": None}, "of 3 runs: 1 failed"),
        ({"state": "missing", "x": None}, "of 3 runs: 1 missing"),
        ({"state": "diverged", "x": None}, "1 diverged, not counted in n"),
        ({"x": float("inf")}, "no finite x"),
    ],
)
def test_no_gap_is_silent(study: Study, change: dict[str, Any], said: str) -> None:
    study.table(**{"a0.2s1": change})
    report = study.read()
    for text in (claims_json(report), markdown(report), page(report)):
        assert said in text
        if change.get("state") == "diverged":
            assert "n = 2" in text or '"n": 2' in text or "| 2 |" in text


def test_what_was_found_heads_the_report(study: Study) -> None:
    study.claims(CLAIMS.replace('    paper: "0.5"\n', "    paper: null\n    finding: How large x is\n"))
    line = "How large x is: 0.51 [0.4852, 0.5348], n = 3, scale laptop."
    assert f"- [C01](#c01) {line}" in markdown(study.read()).replace("\\", "")
    assert line in page(study.read())


def test_words_of_a_finding_belong_to_the_test_whose_number_follows(study: Study) -> None:
    """Where several tests apply at one scale, a claim's one sentence would be said of the number of any of them."""
    alone = "column: x}, rule: {high: 1}}\n  C02"
    study.claims(CLAIMS.replace(alone, "column: x}, rule: {high: 1}, finding: How large x is}\n  C02"))
    assert "How large x is: 0.51 [0.4852, 0.5348], n = 3, scale laptop." in page(study.read())
    asks_y = "{experiment: study, where: {model.alpha: 0.2}, quantity: {name: number, column: y}, rule: {high: 9}}"
    another = f"      - {asks_y}\n  C02"
    of_claim = CLAIMS.replace('    paper: "0.5"\n', "    paper: null\n    finding: How large x is\n")
    study.claims(of_claim.replace("  C02", another, 1))
    with pytest.raises(InputError, match="C01: finding: several tests at one scale: give each test its own finding"):
        study.read()


def test_a_claim_that_was_re_ruled_shows_the_verdict_before(study: Study) -> None:
    was = "    was: {verdict: contradicted, scale: laptop, why: The rule was about y.}\n"
    study.claims(CLAIMS.replace('    paper: "0.5"\n', "    paper: null\n" + was))
    for text in (markdown(study.read()), page(study.read())):
        assert "Was: contradicted at scale laptop, by another rule. The rule was about y." in text
    assert claim(study, "C01")["was"]["verdict"] == "contradicted"


def test_a_control_that_fails_is_named_with_what_would_mend_it(study: Study) -> None:
    control = (
        "controls: {large: {statement: x is large., testable_if: x grows, experiment: study, "
        "where: {model.alpha: 1.0}, quantity: {name: number, column: x}, rule: {low: 5}}}\n"
    )
    asked = CLAIMS.replace("rule: {high: 1}}\n  C02", "rule: {high: 1}, requires: [large]}\n  C02")
    study.claims(control + asked)
    report = study.read()
    assert report.tally()["not testable"] == 1
    for text in (markdown(report), page(report)):
        assert "not testable in this regime" in text
        assert "Testable if x grows." in text


def test_a_claim_that_waits_for_seeds_waits_for_no_reason(study: Study) -> None:
    study.claims(CLAIMS.replace("scales: [laptop, gpu]", "scales: [laptop, gpu]\nlooks: {laptop: [2, 3]}"))
    study.table(**{f"a{alpha}s2": {"state": "missing", "x": None, "y": None} for alpha in (0.2, 1.0)})
    report = study.read()
    assert "? inconclusive, open" in markdown(report)
    assert "C03 (laptop)" not in report.unexplained()


def test_a_single_seed_has_no_interval_and_no_verdict(study: Study) -> None:
    found = claim(study, "W01")
    assert (found["verdict"], found["interval"], found["n"]) == ("not run", None, 0)
    assert found["method"] == "1 completed seed: an interval needs 2"


def test_without_results_every_claim_is_not_run_and_says_so(study: Study) -> None:
    (study.results / "study" / "laptop" / "runs.csv").unlink()
    report = study.read()
    assert report.tally() == {"not run": 5}
    assert "no table study/laptop/runs.csv" in markdown(report)


def test_runs_of_two_precisions_are_refused_and_the_old_report_stays(study: Study) -> None:
    before = [path.read_bytes() for path in write_report(study.read(), study.results)]
    precisions = {"a0.2": "float32", "a1.0": "bfloat16"}
    study.table(**{f"{arm}s{s}": {"precision": found} for arm, found in precisions.items() for s in range(3)})
    called = call_report(study, study.results.parent)
    assert called.returncode == 2
    assert "its runs differ in precision: bfloat16 and float32; say which are meant" in called.stderr
    assert len(called.stderr.splitlines()) == 1
    assert [(study.results / name).read_bytes() for name in FILES] == before


@pytest.mark.parametrize("content", [b"", b"not a picture", b"<svg></svg>", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_picture_is_refused(study: Study, content: bytes) -> None:
    study.figure(content)
    with pytest.raises(InputError, match=r"study\.png: not a PNG image: draw it again"):
        study.read()


def test_a_picture_from_elsewhere_is_refused(study: Study, tmp_path: Path) -> None:
    outside = tmp_path / "private.png"
    outside.write_bytes(PNG)
    (study.results / "study" / "laptop" / "study_more.png").symlink_to(outside)
    with pytest.raises(InputError, match="leads out of"):
        study.read()


def test_figures_of_sweeps_with_overrides_are_left_out(study: Study) -> None:
    study.figure(name="study-train.lr_per_256=1.png")
    assert [figure.path for figures in study.read().figures for figure in figures.figures] == ["study/laptop/study.png"]


def call_report(study: Study, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "nfrepro", "report", "--experiments", str(study.experiments)]
    return subprocess.run(
        [*line, "--results", str(study.results)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_same_results_give_the_same_bytes_anywhere(tmp_path: Path) -> None:
    here, there = build(tmp_path / "here"), build(tmp_path / "some where else" / "ü")
    tokyo, berlin = {"TZ": "Asia/Tokyo", "LC_ALL": "C"}, {"TZ": "Europe/Berlin", "LC_ALL": "de_DE.UTF-8"}
    for seed, study, environment in (("1", here, tokyo), ("2", there, berlin)):
        called = call_report(study, tmp_path, PYTHONHASHSEED=seed, **environment)
        assert called.returncode == 0, called.stderr
        assert "without a likely reason" in called.stdout
        assert "C03 (laptop)" in called.stdout
    for name in FILES:
        content = (here.results / name).read_bytes()
        assert content == (there.results / name).read_bytes(), name
        assert b"\r" not in content
        assert str(tmp_path).encode() not in content


def test_claims_may_be_written_by_their_own_verb(study: Study) -> None:
    line = [sys.executable, "-m", "nfrepro", "claims", "--write", "--experiments", str(study.experiments)]
    called = subprocess.run([*line, "--results", str(study.results)], capture_output=True, text=True, check=False)
    assert called.returncode == 0, called.stderr
    assert "5 claims at the best scale of each: 1 contradicted, 1 inconclusive, 2 not run, 1 supported" in called.stdout
    assert (study.results / "claims.json").read_text(encoding="utf-8") == claims_json(study.read())
    assert not (study.results / "REPORT.md").exists()
