"""The page of experiments is what its script writes from the files and the stored runs."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_is_that_of_the_files_and_stored_runs() -> None:
    specification = importlib.util.spec_from_file_location("experiments_page", ROOT / "docs" / "experiments.py")
    assert specification is not None
    assert specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    assert script.page() == script.PAGE.read_text()
