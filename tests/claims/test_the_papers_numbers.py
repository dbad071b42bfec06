"""What claims say that the paper has is what figures and tables show of it."""

from pathlib import Path

import pytest
import yaml
from project_scripts import script

from nfrepro.plots.paper_values import NF_REGNETS
from nfrepro.plots.propagation_figure import PaperValues

CLAIMS = yaml.safe_load((Path(__file__).parents[2] / "experiments" / "claims.yaml").read_text())["claims"]
FIGURE_1 = script("figure_1").PAPER


@pytest.mark.parametrize("values", FIGURE_1, ids=lambda values: f"{values.label}-{values.statistic}")
def test_values_of_figure_1(values: PaperValues) -> None:
    claimed = [claim["paper"] for claim in CLAIMS.values() if "figure 1" in claim["source"] and claim["paper"]]
    listed = "and 0" if not any(values.values) else ", ".join(f"{value:g}" for value in values.values)
    assert any(listed in text for text in claimed)


def test_multiply_adds_of_figure_3() -> None:
    assert ", ".join(f"{cost:g}" for cost, _ in NF_REGNETS.values()) in CLAIMS["C46"]["paper"]
