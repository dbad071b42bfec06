"""What claims say that the paper has is what figures and tables show of it."""

from pathlib import Path

import pytest
import yaml

from nfrepro.plots.paper_values import (
    COLLAPSES,
    DEPTHWISE_LOSS,
    EFFICIENTNETS,
    FIGURE_1,
    FOLLOW_UP,
    FOLLOW_UP_BATCHES,
    FOLLOW_UP_FAILS,
    NF_REGNETS,
    TABLE_1,
    TABLE_2,
    PaperCurve,
)

CLAIMS = yaml.safe_load((Path(__file__).parents[2] / "experiments" / "claims.yaml").read_text())["claims"]


@pytest.mark.parametrize("values", FIGURE_1, ids=lambda values: f"{values.label}-{values.statistic}")
def test_values_of_figure_1(values: PaperCurve) -> None:
    claimed = [claim["paper"] for claim in CLAIMS.values() if "figure 1" in claim["source"] and claim["paper"]]
    listed = "and 0" if not any(values.values) else ", ".join(f"{value:g}" for value in values.values)
    assert any(listed in text for text in claimed)


def test_multiply_adds_of_figure_3() -> None:
    assert ", ".join(f"{cost:g}" for cost, _ in NF_REGNETS.values()) in CLAIMS["C46"]["paper"]


def test_the_lead_of_efficientnets_in_figure_3() -> None:
    leads = [round(EFFICIENTNETS[name][1] - top1, 1) for name, (_, top1) in NF_REGNETS.items()]
    assert ", ".join(f"{lead:g}" for lead in leads) in CLAIMS["C30"]["paper"]


def test_tables_1_and_2_and_section_5() -> None:
    assert [value.value for value in TABLE_1.values()] == [float(CLAIMS["C25"]["paper"])]
    assert CLAIMS["C27"]["paper"] == f"{TABLE_2[4, 'NF'].value} against {TABLE_2[4, 'BN'].value}"
    assert CLAIMS["C31"]["paper"] == f"{DEPTHWISE_LOSS:g}"
    collapsed = [f"{hits} of {n} at {rate:g}" for rate, (hits, n) in sorted(COLLAPSES.items(), reverse=True)]
    assert CLAIMS["C26"]["paper"] == ", ".join(collapsed)


def test_large_batches_of_the_follow_up() -> None:
    at_1024 = FOLLOW_UP_BATCHES.index(1024)
    at = {depth: {line: values[at_1024] for line, values in lines.items()} for depth, lines in FOLLOW_UP.items()}
    pairs = [f"{lines['NF']} against {lines['BN']} ({depth})" for depth, lines in at.items()]
    assert " and ".join(pairs) in CLAIMS["C23"]["paper"]
    assert f"{at[200]['NF'] - at[50]['NF']:.1f} points" in CLAIMS["C44"]["paper"]
    fails = f"below {FOLLOW_UP_FAILS.value:g} against {FOLLOW_UP[50]['BN'][-1]:g} (BN-ResNet-50)"
    assert CLAIMS["C29"]["paper"] == fails
