"""The package away from its checkout: an installed wheel works on a given experiments folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tiny_experiment import Call, command

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_wheel_works_outside_the_checkout(tmp_path: Path, experiments: Path) -> None:
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, cwd=tmp_path)
    (wheel,) = wheels.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"nfrepro/py.typed", "nfrepro/report/page.html", "nfrepro/report/page.css"} <= set(names)
    assert "nfrepro/project/experiments/recipes/resnet.yaml" in names
    assert not [name for name in names if name.startswith(("tests", "analysis", "experiments", "results"))]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)], check=True)
    program = (
        "import nfrepro, sys; assert nfrepro.__file__.startswith(sys.argv.pop(1)), nfrepro.__file__\n"
        "from nfrepro.cli import main; main()"
    )

    def installed(*arguments: str, folder: Path = tmp_path) -> None:
        called = subprocess.run(
            [sys.executable, "-c", program, str(site), *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert called.returncode == 0, called.stderr

    installed("sweep", "tiny", "--scale", "smoke", "--experiments", str(experiments))
    assert (tmp_path / "results" / "tiny" / "smoke" / "runs.csv").exists()
    installed("init", "mine")
    mine = tmp_path / "mine"
    installed("sweep", "alpha_ablation", "--scale", "smoke", "--set", "seed=0", "--draw", folder=mine)
    assert list((mine / "results" / "alpha_ablation" / "smoke").glob("*.png"))
    installed("init", "paper", "--paper")
    for folder in ("experiments", "analysis"):
        there = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.suffix in (".yaml", ".py")}
        assert {path for path in there if not (tmp_path / "paper" / path).is_file()} == set()


def test_init_replaces_nothing(tmp_path: Path, nfrepro: Call) -> None:
    (tmp_path / "Makefile").write_text("mine")
    called = nfrepro("init", str(tmp_path))
    assert called.returncode == 2
    assert f"{tmp_path / 'Makefile'}: already exists" in called.stderr
    assert (tmp_path / "Makefile").read_text() == "mine"
    assert not (tmp_path / "analysis").exists()


def test_a_missing_folder_of_experiments_says_how_to_name_one(tmp_path: Path) -> None:
    line, environment = command(tmp_path / "nowhere", tmp_path / "results", ["list"])
    called = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert called.returncode == 2
    for named in ("--experiments", "NFREPRO_EXPERIMENTS", "nfrepro init"):
        assert named in called.stderr
