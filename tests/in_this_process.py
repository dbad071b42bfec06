"""The command line and the scripts of analysis/ without a process of their own, whose start takes seconds."""

import io
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

from nfrepro.cli import main

ROOT = Path(__file__).parents[1]


def nfrepro_here(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Calls `nfrepro ARGUMENTS` in the root of the project."""
    handler, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    try:
        return _called(main, ["nfrepro", *arguments])
    finally:
        signal.signal(signal.SIGTERM, handler)
        torch.set_num_threads(threads)


def script_here(name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Calls `analysis/NAME.py ARGUMENTS` in the root of the project."""
    path = str(ROOT / "analysis" / f"{name}.py")
    return _called(lambda: runpy.run_path(path, run_name="__main__"), [path, *arguments])


def _called(function: Callable[[], Any], line: list[str]) -> "subprocess.CompletedProcess[str]":
    status, said, complained = 0, io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(complained):
        patch.setattr(sys, "argv", line)
        patch.chdir(ROOT)
        try:
            function()
        except SystemExit as ended:
            status = int(ended.code or 0)
    return subprocess.CompletedProcess(line, status, said.getvalue(), complained.getvalue())
