"""Writes the parts of README.md about results: the findings, an example of training, and the map of the paper."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from nfrepro import atomic
from nfrepro.report.costs import Costs
from nfrepro.report.findings import findings
from nfrepro.report.paper_parts import PARTS
from nfrepro.report.words import SYMBOLS, verdict_text
from nfrepro.report.words import VERDICTS as PICTURE
from nfrepro.specs import load_experiment

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "README.md"
END = "<!-- end -->\n"
VERDICTS = "<!-- verdicts, written by docs/verdicts.py -->\n"
TRAINING = "<!-- training, written by docs/verdicts.py -->\n"
MAP = "<!-- map, written by docs/verdicts.py -->\n"
RESULTS = "results"
REPORT = f"{RESULTS}/REPORT.md"
TRAINED, SCALE = "alpha_ablation", "overnight"  # the training experiment that is shown

SCALES = ("overnight", "laptop")  # the first with a figure is shown


def said() -> dict[str, Any]:
    """The content of results/claims.json."""
    content: dict[str, Any] = json.loads((ROOT / "results" / "claims.json").read_text(encoding="utf-8"))
    return content


def verdicts() -> str:
    """The counts of verdicts, the findings in sentences, and the picture of all claims."""
    content = said()
    tally = Counter(claim["verdict"] for claim in content["claims"])
    words = [f"{tally[verdict]} {verdict_text(verdict)}" for verdict in SYMBOLS if tally[verdict]]
    lines = [f"Of {len(content['claims'])} claims: {', '.join(words)} ([{REPORT}]({REPORT})).\n\n"]
    lines += [f"- [{claim}]({REPORT}#{claim.lower()}) {text}\n" for claim, text in findings(content)]
    return "".join(lines) + f"\n![Every claim's effect against the bound of its rule]({RESULTS}/{PICTURE})\n"


def training() -> str:
    """The figure and table of the experiment that README.md shows, and the cost of its runs."""
    folder = f"{RESULTS}/{TRAINED}/{SCALE}"
    table = (ROOT / folder / f"{TRAINED}.md").read_text(encoding="utf-8").strip()
    cost = Costs(ROOT / RESULTS).text([TRAINED], SCALE)
    figure = f"![Top-1 accuracy against the residual scale alpha]({folder}/{TRAINED}.png)"
    return f"{figure}\n\n{table}\n\nThese runs took {cost}. All that is stored with each run: [{folder}]({folder}).\n"


def paper_map() -> str:
    """A table with a row for each part of the paper."""
    verdict_of = {claim["id"]: claim["verdict"] for claim in said()["claims"]}
    head = ("in the paper", "experiment", "script", "figure", "claims")
    rows = [head, ("---",) * len(head)]
    for part in PARTS:
        name = part.experiment
        experiment = load_experiment(name, ROOT / "experiments")
        claims = (f"[{id}]({REPORT}#{id.lower()}) {SYMBOLS[verdict_of[id]]}" for id in experiment.claims)
        files = (f"[{name}](experiments/{name}.yaml)", f"[{name}.py](analysis/{name}.py)")
        rows.append((part.title, *files, drawn(name, part.figure_name), ", ".join(claims)))
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def drawn(experiment: str, figure: str) -> str:
    """A link to the stored figure, or else table, at the first scale that has one; empty if there is none."""
    for scale in SCALES:
        for ending in ("png", "md"):
            path = f"results/{experiment}/{scale}/{figure}.{ending}"
            if (ROOT / path).exists():
                return f"[{scale}]({path})"
    return ""


def page() -> str:
    """The whole page with these parts made from the current results."""
    text = PAGE.read_text(encoding="utf-8")
    for mark, write in ((VERDICTS, verdicts), (MAP, paper_map), (TRAINING, training)):
        before, rest = text.split(mark)
        text = before + mark + write() + END + rest.split(END, 1)[1]
    return text


if __name__ == "__main__":
    atomic.write_text(PAGE, page())
