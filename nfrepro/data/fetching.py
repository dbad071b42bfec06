"""Fetches data sets: steps for torchvision and Debian's packages, and the loop that tries them. No torch at import."""

import contextlib
import io
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nfrepro.data.places import FetchStep, Files

# Longest silence of a server, in seconds.
NETWORK_TIMEOUT = 30.0
# Longest time one external command may take, in seconds.
COMMAND_TIMEOUT = 600.0
# The machine's own record of installed packages; readable without root.
DPKG_STATUS = "/var/lib/dpkg/status"


def fetch(files: Files, report: Callable[[str], None]) -> list[str]:
    """Tries the fetch steps of `files` until one brings checked files to `files.destination`.

    Each step works in a temporary folder that is renamed at the end, so the destination is complete or absent, and
    processes may fetch at the same time. Returns a line per step that failed.
    """
    failures: list[str] = []
    for step in files.fetch_steps:
        report(f"{files.title}: fetching with {step.name}")
        try:
            _fetch_with(step, files)
        except Exception as error:  # a step may fail in any way; the next one is tried, the reason is kept
            failures.append(f"{step.name}: {_one_line(error)}")
            report(f"{files.title}: {failures[-1]}")
        else:
            report(f"{files.title}: fetched into {files.destination}")
            break
    return failures


def _fetch_with(step: FetchStep, files: Files) -> None:
    parent = files.destination.parent
    parent.mkdir(parents=True, exist_ok=True)
    # Next to the destination, because a rename works only within one file system.
    with tempfile.TemporaryDirectory(dir=parent, prefix=".fetch-", ignore_cleanup_errors=True) as temporary:
        made = step.make(Path(temporary).absolute())
        files.check(made)
        try:
            os.rename(made, files.destination)
        except OSError:
            # Another process was faster; its files are checked like any others.
            if not files.holds(files.destination):
                raise


def torchvision_step(dataset: str, folder: str) -> FetchStep:
    """The download of `torchvision.datasets.<dataset>`, which leaves its files in `folder`."""

    def make(temporary: Path) -> Path:
        import torchvision.datasets  # heavy, and needed only here

        with _quiet(), _network_timeout(NETWORK_TIMEOUT):
            getattr(torchvision.datasets, dataset)(temporary, download=True)
        return temporary / folder

    return FetchStep("torchvision", make)


def debian_step(package: str, folder: str) -> FetchStep:
    """Debian's `package`, downloaded and unpacked without root; `folder` is its path in the package, without `/`."""

    def make(temporary: Path) -> Path:
        unpacked = temporary / "unpacked"
        archive = _download_package(package, temporary)
        _command(["dpkg-deb", "-x", str(archive), str(unpacked)], temporary)
        return unpacked / folder

    return FetchStep("apt-get", make)


def _download_package(package: str, temporary: Path) -> Path:
    try:
        _apt_get(["download", package], temporary)
    except RuntimeError:
        # Perhaps the machine's package lists are empty: fetch lists of our own, which needs no root.
        private = _private_apt(temporary / "apt")
        _apt_get([*private, "update"], temporary)
        _apt_get([*private, "download", package], temporary)
    archives = sorted(temporary.glob("*.deb"))
    if not archives:
        raise RuntimeError(f"apt-get download {package} produced no .deb file")
    return archives[0]


def _apt_get(arguments: Sequence[str], folder: Path) -> None:
    timeout = f"Acquire::http::Timeout={NETWORK_TIMEOUT:.0f}"
    # The sandbox user could not enter a private temporary folder.
    _command(["apt-get", "-q", "-o", timeout, "-o", "APT::Sandbox::User=root", *arguments], folder)


def _private_apt(folder: Path) -> list[str]:
    """Options that make apt-get keep its lists and caches in `folder`."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    settings = (
        f"Dir::State={folder / 'state'}",
        f"Dir::State::status={DPKG_STATUS}",
        f"Dir::Cache={folder / 'cache'}",
        "Debug::NoLocking=1",
    )
    return [argument for setting in settings for argument in ("-o", setting)]


def _command(arguments: Sequence[str], folder: Path) -> None:
    """Runs a command in `folder`. Raises RuntimeError with the last line of its error message if it fails."""
    try:
        result = subprocess.run(
            arguments,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_TIMEOUT,
        )
    except FileNotFoundError:
        raise RuntimeError(f"no {arguments[0]} on this machine") from None
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{arguments[0]} took more than {COMMAND_TIMEOUT:.0f} s") from None
    if result.returncode != 0:
        complaints = (result.stderr.strip() or result.stdout.strip() or "no message").splitlines()
        raise RuntimeError(f"{arguments[0]} failed with status {result.returncode}: {complaints[-1]}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps progress bars off the terminal."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@contextlib.contextmanager
def _network_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"
