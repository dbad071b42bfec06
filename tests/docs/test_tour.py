"""The notebook of the tour, executed as it is."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tour.ipynb"


@pytest.mark.slow
def test_every_cell_of_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", path)
    notebook = nbformat.read(PAGE, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2  # the signal, and the figure of the five runs
    said = "".join(output.get("text", "") for output in outputs)
    assert "5 runs: 5 completed" in said
    gains = next(output for output in outputs if "text/plain" in output.get("data", {}))["data"]["text/plain"]
    assert "'relu': 1.7128" in gains  # sqrt(2 / (1 - 1 / pi)), section 4.2
