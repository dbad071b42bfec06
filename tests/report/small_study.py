"""A small study with stored results: two series of claims, every verdict, one figure."""

from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nfrepro.report.reading import Report, read_report
from nfrepro.tasks.registry import SCHEMAS

EXPERIMENT = """\
title: A small study
task: probe
set: {model: {name: nf_resnet, depth: 50}}
grid: {model.alpha: [0.2, 1.0], seed: [0, 1, 2]}
scales: {smoke: {}, laptop: {}, gpu: {}}
"""
CLAIMS = """\
scales: [laptop, gpu]
series: {C: "The paper (ICLR 2021)"}
claims:
  C01:
    statement: x is small
    source: section 1
    stated_by: paper
    known_from: authors
    paper: "0.5"
    tests:
      - {experiment: study, where: {model.alpha: 0.2}, quantity: {name: number, column: x}, rule: {high: 1}}
  C02:
    statement: x is small, always
    source: section 2
    stated_by: paper
    known_from: others
    paper: null
    tests:
      - {experiment: study, where: {model.alpha: 0.2}, quantity: {name: number, column: x}, rule: {high: 1}}
      - experiment: study
        where: {model.alpha: 1.0}
        quantity: {name: number, column: x}
        rule: {high: 1}
        note: at the largest alpha
    explained:
      laptop: {verdict: contradicted, reason: alpha is too large, settled_by: a smaller alpha}
  C03:
    statement: y grows with alpha
    source: section 3
    stated_by: paper
    known_from: others
    paper: null
    tests:
      - experiment: study
        where: {model.alpha: 1.0}
        against: {model.alpha: 0.2}
        quantity: {name: number_difference, column: y}
        rule: {above: 0}
  C04:
    statement: nobody can know
    source: nowhere
    stated_by: somebody
    known_from: nowhere
    paper: null
    untested: there are no data
  W01:
    statement: z is there
    source: another paper
    stated_by: others
    known_from: others
    paper: null
    tests:
      - {experiment: study, where: {model.alpha: 1.0, seed: 0}, quantity: {name: number, column: x}, rule: {high: 1}}
"""
# The smallest of pictures: one white pixel.
PNG = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAG7buVgAAAABJRU5ErkJggg==")
NOISE = {(0.2, 0): 1.0, (0.2, 1): 3.0, (0.2, 2): 2.0, (1.0, 0): 2.0, (1.0, 1): 3.5, (1.0, 2): 1.5}


@dataclass(frozen=True)
class Study:
    """The folders of the study."""

    experiments: Path
    results: Path

    def claims(self, text: str) -> None:
        (self.experiments / "claims.yaml").write_text(text, encoding="utf-8")

    def table(self, scale: str = "laptop", **changes: dict[str, Any]) -> None:
        """runs.csv: x is near 0.5 for alpha 0.2, near 2 for alpha 1; y is noise. `changes` are by run, say a0.2s1."""
        rows = [
            {"id": f"a{alpha}s{seed}", "state": "completed", "in_experiment": True, "seed": seed}
            | {"model.name": "nf_resnet", "model.alpha": alpha}
            | {"x": (0.5 if alpha == 0.2 else 2.0) + 0.01 * seed, "y": NOISE[alpha, seed]}
            | changes.get(f"a{alpha}s{seed}", {})
            for alpha, seed in NOISE
        ]
        folder = self.results / "study" / scale
        folder.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(folder / "runs.csv", index=False)

    def figure(self, content: bytes = PNG, name: str = "study.png") -> Path:
        path = self.results / "study" / "laptop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def read(self) -> Report:
        return read_report(self.experiments, self.results, SCHEMAS)


def build(folder: Path) -> Study:
    """Writes the study below a folder."""
    study = Study(folder / "experiments", folder / "results")
    study.experiments.mkdir(parents=True)
    (study.experiments / "study.yaml").write_text(EXPERIMENT)
    study.claims(CLAIMS)
    study.table()
    study.figure()
    return study
