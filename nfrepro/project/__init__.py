"""Files of a new project: its Makefile and README, and the paper's experiments, which a wheel has in this folder."""

from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
TEMPLATES = ("Makefile", "README.md")
# Folders of the checkout that `setup.py` puts into a wheel, each with the pattern of the files to take.
FOLDERS = {"experiments": "**/*.yaml", "analysis": "*.py"}
# A project without the whole paper has the recipes, the cluster profiles and one experiment to start with.
EXAMPLE = "alpha_ablation"


def project_files(paper: bool) -> dict[str, Path]:
    """The files of a new project: relative path -> file with its content. With `paper`, all experiments and scripts.

    Raises `FileNotFoundError` if this installation lacks them.
    """
    root = HERE if (HERE / "experiments").is_dir() else CHECKOUT
    found = {name: HERE / name for name in TEMPLATES}
    for folder, pattern in FOLDERS.items():
        if not (root / folder).is_dir():
            raise FileNotFoundError(2, "missing from this installation", str(root / folder))
        for path in sorted((root / folder).glob(pattern)):
            relative = path.relative_to(root)
            if paper or len(relative.parts) > 2 or path.stem == EXAMPLE:
                found[relative.as_posix()] = path
    return found
