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


@pytest.mark.parametrize(
    ("keys", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "threads", "runs_per_job"),
    [
        ({"cpus_per_run": 4}, 1, 1, 4, 0, 4, 1),
        ({"gpus_per_run": 1, "cpus_per_run": 8, "runs_per_gpu": 3}, 1, 1, 24, 1, 8, 3),
        ({"gpus_per_run": 1, "runs_per_gpu": 3, "runs_per_job": 6}, 1, 1, 3, 1, 1, 6),
        ({"gpus_per_run": 8, "cpus_per_run": 64}, 1, 8, 8, 8, 8, 1),
        ({"gpus_per_run": 16, "cpus_per_run": 64, "nodes_per_run": 2}, 2, 8, 4, 8, 4, 1),
        ({"processes_per_run": 2, "cpus_per_run": 4, "nodes_per_run": 2, "runs_per_job": 5}, 2, 1, 2, 0, 2, 5),
    ],
)
def test_what_a_job_asks_for(
    keys: dict[str, int],
    nodes: int,
    tasks_per_node: int,
    cpus_per_task: int,
    gpus_per_node: int,
    threads: int,
    runs_per_job: int,
) -> None:
    cluster = Cluster.model_validate({"timeout_min": 60, **keys})
    asked = (cluster.nodes_per_run, cluster.tasks_per_node, cluster.cpus_per_task, cluster.gpus_per_node)
    assert asked == (nodes, tasks_per_node, cpus_per_task, gpus_per_node)
    assert (cluster.cpus_per_process, cluster.runs_per_job) == (threads, runs_per_job)
    assert Cluster.model_validate(cluster.model_dump()) == cluster


def test_the_documented_keys_are_those_of_a_profile() -> None:
    lines = (ROOT / "docs" / "cluster.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in lines if line.startswith("| `")]
    expected = {
        f"`{name}`": field.get_default(call_default_factory=True) for name, field in Cluster.model_fields.items()
    }
    follow = {"`processes_per_run`": "`gpus_per_run`", "`runs_per_job`": "`runs_per_gpu`", "`timeout_min`": ""}
    shown = {key: follow.get(key, "" if value in (None, []) else str(value)) for key, value in expected.items()}
    assert dict(rows) == shown
    assert [key for key, _ in rows] == list(shown)


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
        (
            "timeout_min: 60\ngpus_per_run: 8\ncpus_per_run: 12\n",
            ": cpus_per_run: 12 is not a multiple of the 8 processes",
        ),
        (
            "timeout_min: 60\ngpus_per_run: 4\nprocesses_per_run: 2\ncpus_per_run: 4\n",
            ": processes_per_run: 2, but one process a GPU is 4",
        ),
        (
            "timeout_min: 60\nprocesses_per_run: 3\ncpus_per_run: 3\nnodes_per_run: 2\n",
            ": nodes_per_run: 3 processes and 0 GPUs do not divide evenly among 2 nodes",
        ),
        (
            "timeout_min: 60\ngpus_per_run: 2\ncpus_per_run: 2\nruns_per_gpu: 2\n",
            ": runs_per_gpu: 2 runs share a GPU, so none of them can use several",
        ),
        (
            "timeout_min: 60\nruns_per_gpu: 4\nruns_per_job: 2\n",
            ": runs_per_job: 2 is less than runs_per_gpu, 4",
        ),
        (
            'timeout_min: 60\npartition: "main\\n#SBATCH --uid=0"\n',
            ":2: partition: has the control character '\\n': give one line of plain text",
        ),
        (
            'timeout_min: 60\nsetup: [module load cuda, "echo \\0"]\n',
            ":2: setup.1: has the control character '\\x00': give one line of plain text",
        ),
        ("- timeout_min: 60\n", ":1: expected a mapping of keys to values"),
        ("", ": the file is empty"),
    ],
)
def test_mistakes_are_refused_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text) == message
