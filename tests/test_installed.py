"""The package away from its checkout: an installed wheel works on a given experiments folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
    assert not [name for name in names if name.startswith(("tests", "analysis", "experiments", "results"))]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)], check=True)
    program = (
        "import nfrepro, sys; assert nfrepro.__file__.startswith(sys.argv.pop(1)), nfrepro.__file__\n"
        "from nfrepro.cli import main; main()"
    )
    called = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            str(site),
            "sweep",
            "tiny",
            "--scale",
            "smoke",
            "--experiments",
            str(experiments),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert called.returncode == 0, called.stderr
    assert (tmp_path / "results" / "tiny" / "smoke" / "runs.csv").exists()
