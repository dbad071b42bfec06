"""The page of experiments is what its script writes from the files and the stored runs."""

from project_scripts import script


def test_the_table_is_that_of_the_files_and_stored_runs() -> None:
    experiments = script("experiments", "docs")
    assert experiments.page() == experiments.PAGE.read_text()
