"""The documents are true: their numbers come from stored results, their links lead somewhere, their commands exist."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
STORED = ROOT / "results" / "alpha_ablation" / "overnight"


def test_the_readmes_table_is_what_the_command_draws_from_the_stored_runs(tmp_path: Path) -> None:
    for line in (STORED / "runs.csv").read_text().splitlines()[1:]:
        name = line.partition(",")[0]
        if (stored := ROOT / "results" / "runs" / name).exists():
            shutil.copytree(stored, tmp_path / "runs" / name)
    scale = ["--scale", STORED.name]
    collect = [sys.executable, "-m", "nfrepro", "collect", "alpha_ablation", *scale, "--results", str(tmp_path)]
    subprocess.run(collect, cwd=ROOT, check=True, capture_output=True)
    draw = [sys.executable, "analysis/alpha_ablation.py", *scale, "--results", str(tmp_path)]
    subprocess.run(draw, cwd=ROOT, check=True, capture_output=True)
    for name in ("runs.csv", "alpha_ablation.md"):
        assert (tmp_path / "alpha_ablation" / STORED.name / name).read_text() == (STORED / name).read_text()
    assert (STORED / "alpha_ablation.md").read_text().strip() in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if not target.startswith("https://"):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_and_files_that_are_named_exist(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert (
        set(re.findall(r"make ([a-z][a-z-]*)", " ".join(re.findall(r"`[^`]*`|^ .*|^make .*", text, flags=re.M))))
        <= targets
    )
    for name in re.findall(r"`((?:nfrepro|tests|analysis|experiments)/[\w./]+\.\w+)`", text):
        assert (ROOT / name).exists() or "NAME" in name, name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_runs_that_are_named_are_stored(document: Path) -> None:
    stored = {path.name.rpartition("-")[2] for path in (ROOT / "results" / "runs").iterdir()}
    assert set(re.findall(r"RUN=([0-9a-f]{12})\b", document.read_text())) <= stored


def test_the_readmes_experiment_is_the_one_in_the_folder() -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert yaml.safe_load(shown) == yaml.safe_load((ROOT / "experiments" / "alpha_ablation.yaml").read_text())


def test_the_python_of_why_runs() -> None:
    (shown,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "why.md").read_text(), flags=re.DOTALL)
    subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)


def test_the_readmes_python_runs() -> None:
    (shown,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    program = re.sub(r"^(gain.*?)\s+#.*$", r"print(round(\1, 6))", shown, flags=re.MULTILINE)
    called = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert called.stdout.strip() == "1.787187"
