"""The verbs `plan` and `dry-run`, called as users and programs call them."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from in_this_process import nfrepro_here
from tiny_experiment import TINY, Call, command

PLAN = Path(__file__).parent / "plan.txt"
PROFILE = "partition: main\ncpus_per_run: 2\ntimeout_min: 90\nruns_per_job: 3\narray_parallelism: 2\n"
SMOKE = ["tiny", "--scale", "smoke"]


@pytest.fixture
def profile(tmp_path: Path) -> str:
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE)
    return str(path)


def test_the_plan_of_a_cluster_is_this_text(nfrepro: Call, results: Path, profile: str) -> None:
    called = nfrepro("plan", *SMOKE, "--cluster", profile, "--tflops", "0.0001")
    assert (called.returncode, called.stderr) == (0, "")
    assert called.stdout == PLAN.read_text()
    assert not results.exists()


@pytest.mark.parametrize("name", ["augmentation", "table_1", "why_normalization"])
def test_a_plan_fits_a_terminal_and_points_to_gpus_where_there_is_work_for_them(name: str) -> None:
    called = nfrepro_here("plan", name, "--scale", "gpu", "--tflops", "1e-5")
    assert called.returncode == 0, called.stderr
    assert max(map(len, called.stdout.splitlines())) <= 100
    if "CPU-hours" in called.stdout:
        assert f"nfrepro plan {name} --scale gpu --cluster gpu_partition" in called.stdout
    (profile,) = (Path(__file__).parents[2] / "experiments" / "clusters").glob("gpu_partition.yaml")
    planned = nfrepro_here("plan", name, "--scale", "gpu", "--cluster", str(profile))
    assert "GPU-hours" in planned.stdout


def test_the_plan_as_json(nfrepro: Call, profile: str) -> None:
    plan = json.loads(nfrepro("plan", *SMOKE, "--cluster", profile, "--tflops", "0.0001", "--json").stdout)
    assert {key: plan[key] for key in ("experiment", "scale", "task", "runs", "done", "failed", "left")} == {
        "experiment": "tiny",
        "scale": "smoke",
        "task": "train",
        "runs": 4,
        "done": 0,
        "failed": 0,
        "left": 4,
    }
    (shape,) = plan["shapes"]
    assert (shape["runs"], shape["left"], shape["steps"]) == (4, 4, [12, 12])
    # Two epochs of 96 images, six operations a multiply-add; two evaluations of 32 images, two operations.
    operations = shape["multiply_adds"] * (2 * 96 * 6 + 2 * 32 * 2)
    assert shape["hours_per_run"] * 3600 == pytest.approx(operations / 1e8)
    assert plan["device_hours_left"] == pytest.approx(4 * 2 * shape["hours_per_run"])
    assert plan["jobs"] == {
        "jobs": 2,
        "hours": 2 * 1.5 * 2,
        "device": "cpu",
        "longest_job_hours": pytest.approx(3 * shape["hours_per_run"]),
        "timeout_hours": 1.5,
    }


@pytest.mark.slow
def test_a_plan_goes_by_the_dry_run_and_by_what_is_done(nfrepro: Call, results: Path) -> None:
    called = nfrepro("dry-run", *SMOKE, "--threads", "1", "--steps", "2")
    assert called.returncode == 0, called.stdout + called.stderr
    (row,) = [line.split() for line in called.stdout.splitlines() if line.startswith("nf_resnet8 ")]
    assert row[1:3] == ["yes", "finite"]
    assert row[-1] == "measured"
    (path,) = (results / ".dry-run" / "tiny" / "smoke").iterdir()
    measured = json.loads(path.read_text())
    assert sorted(entry.name for entry in results.iterdir()) == [".dry-run"]
    assert nfrepro("sweep", *SMOKE, "--set", "seed=0", "--jobs", "1", "--threads", "1").returncode == 0

    plan = json.loads(nfrepro("plan", *SMOKE, "--threads", "1", "--json").stdout)
    assert (plan["runs"], plan["done"], plan["left"]) == (4, 2, 2)
    (shape,) = plan["shapes"]
    assert (shape["rate_from"], shape["images_per_second"]) == ("measured", measured["joint_rate"])
    assert (shape["peak_from"], shape["peak_bytes"]) == ("measured", measured["peak_bytes"])
    assert shape["loader_images_per_second"] == measured["loader_rate"]
    assert plan["hours_left"] == pytest.approx(2 * shape["hours_per_run"])
    # Measured with one thread: nothing is known of two.
    plan = json.loads(nfrepro("plan", *SMOKE, "--threads", "2", "--json").stdout)
    assert plan["shapes"][0]["rate_from"].startswith("not measured: assumes")


def test_without_a_dry_run_a_plan_goes_by_stored_runs(nfrepro: Call, results: Path) -> None:
    assert nfrepro("sweep", *SMOKE, "--set", "seed=0", "--jobs", "1", "--threads", "1").returncode == 0
    records = [json.loads(path.read_text()) for path in results.glob("runs/*/run.json")]
    seconds = sum(record["final"]["train_seconds"] for record in records)
    (shape,) = json.loads(nfrepro("plan", *SMOKE, "--threads", "1", "--json").stdout)["shapes"]
    assert shape["rate_from"] == "2 stored runs"
    assert shape["images_per_second"] == pytest.approx(2 * 12 * 16 / seconds)
    # Runs with one thread tell nothing of two.
    (shape,) = json.loads(nfrepro("plan", *SMOKE, "--threads", "2", "--json").stdout)["shapes"]
    assert shape["rate_from"] == "not measured: assumes 0.6 ms a layer"


def test_a_batch_that_the_processes_of_a_run_cannot_share_is_refused(nfrepro: Call, tmp_path: Path) -> None:
    profile = tmp_path / "three.yaml"
    profile.write_text("partition: main\ncpus_per_run: 3\nprocesses_per_run: 3\ntimeout_min: 90\n")
    called = nfrepro("plan", *SMOKE, "--cluster", str(profile))
    assert (called.returncode, called.stdout) == (2, "")
    assert called.stderr == (
        "nfrepro: nf_resnet8: train.batch_size: 16 is not a multiple of the 3 processes of a run\n"
    )


def test_other_tasks_cost_what_they_did(nfrepro: Call, experiments: Path, results: Path) -> None:
    (experiments / "constants.yaml").write_text(
        "title: t\ntask: gain\nset: {vectors: 4}\ngrid: {activation: [relu, silu]}\nscales: {smoke: {}}\n"
    )
    scale = ["constants", "--scale", "smoke"]
    called = nfrepro("plan", *scale)
    assert "constants at scale smoke: 2 runs: 0 done, 2 left" in called.stdout
    assert "cost: unknown" in called.stdout
    assert nfrepro("sweep", *scale, "--set", "activation=relu", "--jobs", "1").returncode == 0
    plan = json.loads(nfrepro("plan", *scale, "--json").stdout)
    assert (plan["done"], plan["left"], plan["stored"]["runs"]) == (1, 1, 1)
    assert plan["hours_left"] == pytest.approx(plan["stored"]["seconds_per_run"] / 3600)
    (record,) = results.glob("runs/*/run.json")
    unfinished = json.loads(record.read_text()) | {"status": "running", "finished": None, "final": None}
    record.write_text(json.dumps(unfinished))
    assert json.loads(nfrepro("plan", *scale, "--json").stdout)["stored"] is None
    called = nfrepro("dry-run", *scale)
    assert called.returncode == 2
    assert "a dry run needs training runs" in called.stderr


@pytest.mark.slow
def test_one_shape_that_fails_stops_no_other(nfrepro: Call, experiments: Path) -> None:
    """Without normalization 300 blocks overflow float32 in the first forward pass."""
    (experiments / "tiny.yaml").write_text(
        TINY.replace("model.alpha: [0.2, 1.0]\n  ", "").replace(
            "grid:", "arms:\n  deep: {set: {model: {name: unnormalized_resnet, blocks: [300, 1]}}}\n  nf: {}\ngrid:"
        )
    )
    called = nfrepro("dry-run", *SMOKE, "--threads", "1", "--steps", "1")
    assert called.returncode == 1
    deep, shallow = called.stdout.splitlines()[2:]
    assert "not finite" in deep
    assert shallow.split()[:3] == ["nf_resnet8", "yes", "finite"]


@pytest.mark.slow
def test_a_shape_without_enough_memory_is_named(experiments: Path, results: Path) -> None:
    """The address space is limited to what torch takes alone and 1 GiB: the allocator itself refuses the rest."""
    needs = TINY.replace("pixels: 8", "pixels: 256").replace("width: 0.0625", "width: 4")
    (experiments / "tiny.yaml").write_text(needs.replace("batch_size: 16", "batch_size: 4"))
    limit = address_space_of_torch() + 2**30
    line, environment = command(experiments, results, ["dry-run", *SMOKE, "--threads", "1", "--steps", "1"])
    called = subprocess.run(
        line,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert called.returncode == 1, called.stdout + called.stderr
    row = called.stdout.splitlines()[-1]
    assert row.split()[:2] == ["nf_resnet8", "no"]
    assert "can't allocate memory" in row


def address_space_of_torch() -> int:
    code = "import nfrepro.tasks.dry_run, torch; torch.eye(9) @ torch.eye(9); print(open('/proc/self/status').read())"
    status = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return int(next(line for line in status.splitlines() if line.startswith("VmPeak")).split()[1]) * 1024


def test_a_shape_that_takes_too_long_says_so(nfrepro: Call, results: Path) -> None:
    called = nfrepro("dry-run", *SMOKE, "--limit-seconds", "1", "--steps", "1000")
    assert called.returncode == 0
    assert "too slow here: >" in called.stdout.splitlines()[-1]
    plan = json.loads(nfrepro("plan", *SMOKE, "--json").stdout)
    assert plan["shapes"][0]["rate_from"].startswith("not measured (dry run: slow): assumes")


def test_an_unknown_device_is_refused(nfrepro: Call) -> None:
    called = nfrepro("dry-run", *SMOKE, "--device", "tpu")
    assert (called.returncode, called.stdout) == (2, "")
    assert "--device tpu: there is: cpu, cuda, cuda:NUMBER, auto" in called.stderr
