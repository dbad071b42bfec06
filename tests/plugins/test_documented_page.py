"""The example of docs/plugins.md, run as it stands there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nfrepro.specs import load_experiment
from nfrepro.specs.expansion import expand
from nfrepro.tasks.registry import SCHEMAS
from tests.in_this_process import ROOT, nfrepro_here

PAGE = (ROOT / "docs" / "plugins.md").read_text()


def written_out(folder: Path) -> Path:
    """The files of the page, in `folder`; its experiment."""
    for name, text in re.findall(r"^`([\w/.]+)`:\n```\w+\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder / "own_against_ours.yaml"


def records(results: Path) -> dict[str, Any]:
    found = [json.loads(path.read_text()) for path in results.glob("runs/*/run.json")]
    return {record["id"].partition("-")[0]: record for record in found}


@pytest.mark.slow
def test_the_example_runs_as_it_is_written(tmp_path: Path) -> None:
    experiment, results = written_out(tmp_path), tmp_path / "results"
    planned = nfrepro_here("plan", str(experiment), "--scale", "smoke", "--results", str(results))
    assert planned.returncode == 0, planned.stderr
    assert "convnext_atto" in planned.stdout
    ended = nfrepro_here("sweep", str(experiment), "--scale", "smoke", "--results", str(results))
    assert ended.returncode == 0, ended.stderr + ended.stdout
    found = records(results)
    assert {record["status"] for record in found.values()} == {"completed"}
    assert len(list(results.glob("runs/*/run.json"))) == 4
    assert found["convnext_atto"]["config"]["source"].count("==") == 1
    assert found["our_study.parts.SmallNet"]["final"]["parameters"] == 9 * 16 + 16 + 2 * 16 + 16 * 3 + 3


def test_the_mistake_of_the_page_is_said_as_it_says(tmp_path: Path) -> None:
    experiment = written_out(tmp_path)
    experiment.write_text(experiment.read_text().replace("width: 16", "widht: 16"))
    said = re.search(r"`own_against_ours\.yaml:(\d+):\s(model.*?)`", PAGE, flags=re.DOTALL)
    assert said is not None
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        expand(load_experiment(str(experiment), tmp_path), "smoke", SCHEMAS)
    expected = f"own_against_ours.yaml:{said[1]}: " + said[2].replace("\n", " ")
    assert str(caught.value).endswith(expected)
