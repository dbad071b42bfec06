"""docs/gpu.md is what its facts say; the prose that quotes it quotes it right."""

from pathlib import Path

import pytest

from nfrepro.bench.gpu_check.page import page, read

DOCS = Path(__file__).parents[2] / "docs"
FACTS = read(DOCS / "gpu_facts.jsonl")


def test_the_page_is_made_of_the_facts() -> None:
    assert (DOCS / "gpu.md").read_text() == page(FACTS, "gpu_facts.jsonl")


def test_what_could_not_be_checked_is_on_the_page() -> None:
    facts = [*FACTS, {"check": "resume", "left_out": "stopped after 60 s"}, {"check": "faults", "failed": "a\nb: c\n"}]
    text = page(facts, "gpu_facts.jsonl")
    assert "| resume | stopped after 60 s |" in text
    assert "| faults | b: c |" in text


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_the_table_of_precisions_quotes_the_facts(precision: str) -> None:
    rate = next(
        fact["images_s"]
        for fact in FACTS
        if fact.get("network") == "ours, nf_resnet50" and fact["precision"] == precision
    )
    lines = (DOCS / "from_laptop_to_cluster.md").read_text().splitlines()
    assert any(line.startswith(f"| `{precision}`") and line.endswith(f"| {rate:,} |") for line in lines)


@pytest.mark.parametrize("document", ["README.md", "docs/models.md"])
def test_the_rates_of_resnet_50_are_quoted_right(document: str) -> None:
    text = (DOCS.parent / document).read_text()
    for network in ("ours, nf_resnet50", "timm, nf_resnet50", "torchvision, resnet50"):
        rate = next(fact["images_s"] for fact in FACTS if fact.get("network") == network)
        assert f"{rate:,}" in text, network


def test_graphs_and_resumed_runs_had_the_same_bits() -> None:
    bits = [fact for fact in FACTS if "same_bits" in fact and fact["check"] in ("cuda_graph", "resume")]
    assert len(bits) == 9
    assert all(fact["same_bits"] for fact in bits)
