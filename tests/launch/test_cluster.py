"""Cluster profiles: what is read, and what is refused with its place."""

from pathlib import Path

import pytest

from nfrepro.errors import InputError
from nfrepro.launch.cluster import Cluster, load_cluster

ROOT = Path(__file__).parents[2]


def refusal(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_cluster(str(path), tmp_path)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}")


def test_a_profile_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    (tmp_path / "clusters").mkdir()
    path = tmp_path / "clusters" / "ours.yaml"
    path.write_text("timeout_min: 90\ngpus_per_run: 1\nsetup: [module load cuda]\n")
    expected = Cluster(timeout_min=90, gpus_per_run=1, setup=["module load cuda"])
    assert load_cluster("ours", tmp_path) == load_cluster(str(path), tmp_path) == expected
    assert expected.runs_on == "cuda"
    with pytest.raises(InputError, match=r"--cluster our: no such profile, did you mean ours\?"):
        load_cluster("our", tmp_path)


@pytest.mark.parametrize("path", sorted((ROOT / "experiments" / "clusters").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_projects_profiles_are_valid(path: Path) -> None:
    assert load_cluster(path.stem, ROOT / "experiments").timeout_min > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partition: main\n", ": timeout_min: missing required key"),
        ("timeout_min: 60\ntimeout: 3\n", ":2: timeout: unknown key, did you mean timeout_min?"),
        (
            "timeout_min: 60\ncpus_per_run: 0\n",
            ":2: cpus_per_run: expected a value greater than or equal to 1, found 0",
        ),
        ("timeout_min: 1h\n", ":1: timeout_min: expected an integer, found text '1h'"),
        ("timeout_min: 60\nsetup: module load cuda\n", ":2: setup: expected a list, found text 'module load cuda'"),
        ("timeout_min: 2\n", ": seconds_to_save: 120 is more than half of the limit of 2 min"),
        ("- timeout_min: 60\n", ":1: expected a mapping of keys to values"),
        ("", ": the file is empty"),
    ],
)
def test_mistakes_are_refused_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text) == message
