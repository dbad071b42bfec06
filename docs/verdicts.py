"""Writes what was found, verdict by verdict, and the map from the paper to the files, in README.md."""

import json
from pathlib import Path
from typing import Any

from nfrepro import atomic
from nfrepro.report.words import SYMBOLS, verdict_text
from nfrepro.specs import load_experiment

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "README.md"
END = "<!-- end -->\n"
VERDICTS = "<!-- verdicts, written by docs/verdicts.py -->\n"
MAP = "<!-- map, written by docs/verdicts.py -->\n"
REPORT = "results/REPORT.md"

# What the paper shows -> the experiment, and the figure where its name is not the experiment's.
PAPER = (
    ("Figure 1: signal propagation with BatchNorm", "figure_1", None),
    ("Figure 2: and without any normalization", "figure_2", None),
    ("Figure 3: NF-RegNets and EfficientNets", "figure_3", None),
    ("Table 1: top-1 by method and depth", "table_1", None),
    ("Table 2: small batches", "table_2", None),
    ("Section 3: the signal under every switch", "spp_variants", "spp_variants_standardization"),
    ("Section 4: alpha", "alpha_ablation", None),
    ("Section 4: beta", "beta", None),
    ("Section 4.2: Scaled Weight Standardization", "weight_standardization", None),
    ("Section 4.3: gamma of each activation", "gains", None),
    ("Activations in training", "activations", None),
    ("SkipInit scalar", "skipinit_gain", None),
    ("Regularisation", "regularization", None),
    ("Large batches, adaptive clipping", "large_batch", None),
    ("Weight decay of gains and biases", "weight_decay_mask", None),
    ("Depthwise convolutions", "group_width", None),
    ("Stability of very deep networks", "deep_stability", None),
)
SCALES = ("overnight", "laptop")  # the first that has a figure is shown


def said() -> dict[str, Any]:
    """results/claims.json."""
    content: dict[str, Any] = json.loads((ROOT / "results" / "claims.json").read_text(encoding="utf-8"))
    return content


def verdicts() -> str:
    """How many claims have each verdict, and a line for each claim whose number has a meaning in words."""
    found = said()
    counts = {verdict: sum(claim["verdict"] == verdict for claim in found["claims"]) for verdict in SYMBOLS}
    words = [f"{count} {verdict_text(verdict)}" for verdict, count in counts.items() if count]
    lines = [f"Of {len(found['claims'])} claims: {', '.join(words)} ([{REPORT}]({REPORT})).\n\n"]
    lines += [f"- [{of['claim']}]({REPORT}#{of['claim'].lower()}) {of['text']}\n" for of in found["found"]]
    return "".join(lines)


def paper_map() -> str:
    """A row for each part of the paper."""
    verdict_of = {claim["id"]: claim["verdict"] for claim in said()["claims"]}
    head = ("in the paper", "experiment", "script", "figure", "claims")
    rows = [head, ("---",) * len(head)]
    for part, name, figure in PAPER:
        experiment = load_experiment(name, ROOT / "experiments")
        claims = (f"[{id}]({REPORT}#{id.lower()}) {SYMBOLS[verdict_of[id]]}" for id in experiment.claims)
        files = (f"[{name}](experiments/{name}.yaml)", f"[{name}.py](analysis/{name}.py)")
        rows.append((part, *files, drawn(name, figure or name), ", ".join(claims)))
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def drawn(experiment: str, figure: str) -> str:
    """A link to the stored figure, or table where there is no figure, at the first scale that has one."""
    for scale in SCALES:
        for ending in ("png", "md"):
            path = f"results/{experiment}/{scale}/{figure}.{ending}"
            if (ROOT / path).exists():
                return f"[{scale}]({path})"
    return ""


def page() -> str:
    """The page with all of it written again."""
    text = PAGE.read_text(encoding="utf-8")
    for mark, write in ((VERDICTS, verdicts), (MAP, paper_map)):
        before, rest = text.split(mark)
        text = before + mark + write() + END + rest.split(END, 1)[1]
    return text


if __name__ == "__main__":
    atomic.write_text(PAGE, page())
