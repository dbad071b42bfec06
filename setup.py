"""What pyproject.toml cannot say: a wheel has the paper's experiments and analysis scripts, for `nfrepro init`."""

import runpy
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
FOLDERS = runpy.run_path(str(ROOT / "nfrepro" / "project" / "__init__.py"))["FOLDERS"]


class BuildWithProject(build_py):
    """Copies the folders of a new project into the package; an editable install finds them in the checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for folder, pattern in FOLDERS.items():
            for path in sorted((ROOT / folder).glob(pattern)):
                target = Path(self.build_lib) / "nfrepro" / "project" / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


setup(cmdclass={"build_py": BuildWithProject})
