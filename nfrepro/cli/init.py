"""The verb init: a new project, with the paper's recipes."""

from pathlib import Path
from typing import Annotated

import typer

from nfrepro.errors import InputError


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the new project; created if missing.")],
    paper: Annotated[
        bool, typer.Option("--paper", help="Include all experiments of the paper, their claims and analysis scripts.")
    ] = False,
) -> None:
    """Create a project with an example experiment.

    Includes the experiment's analysis script, the paper's recipes, cluster profiles, a Makefile and a README.
    """
    from nfrepro import atomic
    from nfrepro.project import EXAMPLE, project_files

    files = project_files(paper)
    if there := [name for name in files if (folder / name).exists()]:
        raise InputError(f"{folder / there[0]}: already exists, and init replaces nothing: name another folder")
    for name, source in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(folder / name, source.read_text())
    print(f"{folder}: {len(files)} files. Next:")
    print(f"cd {folder} && nfrepro sweep {EXAMPLE} --scale smoke")
