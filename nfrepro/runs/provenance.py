"""The origin of a number: code, versions, machine. A chosen list, never the whole environment. No torch."""

import json
import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("nfrepro", "torch", "torchvision", "numpy")
# Names of settings that may change speed or rounding. No other part of the environment is read.
ENVIRONMENT = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "DNNL_MAX_CPU_ISA",
    "MKL_NUM_THREADS",
    "NFREPRO_CUDA_GRAPH",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "ONEDNN_MAX_CPU_ISA",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_JOB_ID",
    "SLURM_RESTART_COUNT",
)
# A file next to a copy of the package: the git revision it was copied from.
REVISION = "nfrepro-revision.json"


@lru_cache(maxsize=1)
def provenance() -> dict[str, Any]:
    """Code revision, versions, processor and the allowed part of the environment, as of the first call."""
    return {
        "git": _own_revision(Path(__file__).parents[1]),
        "python": platform.python_version(),
        "versions": versions(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }


def versions() -> dict[str, str | None]:
    """The versions of the packages that numbers depend on."""
    return {package: _version(package) for package in PACKAGES}


def _own_revision(package: Path) -> dict[str, Any] | None:
    try:
        revision: dict[str, Any] | None = json.loads((package.parent / REVISION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return git_revision(package)
    return revision


def git_revision(folder: Path) -> dict[str, Any] | None:
    """`{sha, dirty}` of the checkout that holds `folder`; None outside one. Results and data do not make it dirty."""
    sha = _git(folder, "rev-parse", "HEAD")
    if sha is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--", ":/", ":(exclude,top)results", ":(exclude,top)data")
    return {"sha": sha, "dirty": bool(changes)}


def processor() -> str:
    """The processor's model name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
            return next(names, platform.machine())
    except OSError:
        return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
