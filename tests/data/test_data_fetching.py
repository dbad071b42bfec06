import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torchvision.datasets

from nfrepro.data import fetching, places
from nfrepro.data.fetching import fetch
from nfrepro.data.location import locate
from nfrepro.data.options import CIFAR10Options, FashionMNISTOptions
from nfrepro.errors import InputError

OPTIONS = FashionMNISTOptions()
DESTINATION = Path("data/fashion-mnist")
FILES = {f"{split}-{kind}-ubyte.gz" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")}


@pytest.fixture
def no_torchvision(monkeypatch):
    def fail(root, download):
        print("progress")
        raise RuntimeError("Error downloading\nno network")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fail)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fail)


@pytest.fixture
def fake_programs(tmp_path, monkeypatch, put_tiny):
    """An apt-get and a dpkg-deb that log their calls. `known`: whether the machine's own lists know the package."""
    folder = tmp_path / "programs"
    folder.mkdir()
    log = tmp_path / "calls.log"
    put_tiny(tmp_path / "package" / "usr/share/datasets/fashion-mnist")

    def install(known: bool = True, update_works: bool = True) -> Path:
        programs = {
            "apt-get": f"""
                echo "apt-get $*" >> {log}
                case "$*" in
                  *Dir::State=*update) test {int(update_works)} = 1 && touch {tmp_path}/updated && exit 0 ;;
                  *Dir::State=*download*) test -e {tmp_path}/updated && echo deb > package_1_all.deb && exit 0 ;;
                  *download*) test {int(known)} = 1 && echo deb > package_1_all.deb && exit 0 ;;
                esac
                echo "W: a warning" >&2; echo "E: Unable to locate package" >&2; exit 100""",
            "dpkg-deb": f"""
                echo "dpkg-deb $*" >> {log}
                test "$1" = -x && test "$(cat "$2")" = deb && cp -r {tmp_path}/package "$3" """,
        }
        for name, script in programs.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return log

    return install


def calls(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def test_torchvision_comes_first(bare_machine, put_tiny, fake_programs, monkeypatch, capfd):
    log = fake_programs()

    def download(root, download):
        assert download
        print("progress")
        put_tiny(Path(root) / "FashionMNIST" / "raw")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", download)
    lines = []
    assert locate(OPTIONS, report=lines.append) == DESTINATION
    assert {path.name for path in DESTINATION.iterdir()} == FILES
    assert os.listdir("data") == ["fashion-mnist"]
    assert calls(log) == []
    assert lines == [
        "Fashion-MNIST: fetching with torchvision",
        "Fashion-MNIST: fetched into data/fashion-mnist",
    ]
    assert capfd.readouterr() == ("", "")


def test_apt_get_comes_next(bare_machine, fake_programs, no_torchvision, capfd):
    log = fake_programs()
    lines = []
    assert locate(OPTIONS, report=lines.append) == DESTINATION
    assert {path.name for path in DESTINATION.iterdir()} == FILES
    assert os.listdir("data") == ["fashion-mnist"]
    assert [line.split()[0] for line in calls(log)] == ["apt-get", "dpkg-deb"]
    assert calls(log)[0].endswith("download dataset-fashion-mnist")
    assert "Fashion-MNIST: torchvision: Error downloading no network" in lines
    assert capfd.readouterr() == ("", "")
    # Found from now on, without another call.
    assert locate(OPTIONS) == DESTINATION
    assert len(calls(log)) == 2


def test_private_package_lists_where_the_machine_has_none(bare_machine, fake_programs, no_torchvision):
    log = fake_programs(known=False)
    assert locate(OPTIONS) == DESTINATION
    plain, update, download, unpack = calls(log)
    assert "Dir::State" not in plain
    for call in (update, download):
        options = dict(word.split("=", 1) for word in call.split() if "=" in word)
        assert options["Dir::State::status"] == "/var/lib/dpkg/status"
        assert options["Debug::NoLocking"] == "1"
        for name in ("Dir::State", "Dir::Cache"):
            assert Path(options[name]).is_absolute()
            assert Path(options[name]).is_relative_to(bare_machine / "data")
    assert update.endswith(" update")
    assert download.endswith(" download dataset-fashion-mnist")
    assert unpack.startswith("dpkg-deb -x ")


def test_all_failures_are_in_the_error(bare_machine, fake_programs, no_torchvision):
    fake_programs(known=False, update_works=False)
    with pytest.raises(InputError) as caught:
        locate(OPTIONS)
    message = str(caught.value)
    assert "torchvision: Error downloading no network; apt-get: apt-get failed with status 100: E: Unable" in message
    assert "apt-get install dataset-fashion-mnist" in message
    assert "\n" not in message
    assert os.listdir("data") == []


def test_a_machine_without_apt_get(bare_machine, put_tiny, no_torchvision, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no apt-get on this machine"):
        locate(OPTIONS)


def test_altered_download_is_not_kept(bare_machine, fake_programs, no_torchvision, tmp_path):
    fake_programs()
    (tmp_path / "package/usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz").write_bytes(b"bad")
    with pytest.raises(InputError, match=r"apt-get: .*t10k-labels-idx1-ubyte\.gz: truncated or altered"):
        locate(OPTIONS)
    assert os.listdir("data") == []


def test_fetch_can_be_forbidden(bare_machine, fake_programs, no_torchvision):
    log = fake_programs()
    with pytest.raises(InputError, match="not found"):
        locate(OPTIONS, fetch=False)
    assert calls(log) == []


def test_cifar10_has_torchvision_only(bare_machine, no_torchvision):
    with pytest.raises(InputError, match=r"CIFAR-10: not found .*could not be fetched \(torchvision: Error"):
        locate(CIFAR10Options())


def files_of(steps, destination="data/set") -> places.Files:
    def check(folder):
        if (folder / "content").read_text() not in ("ours", "theirs"):
            raise InputError("altered")

    return places.Files(
        title="set",
        places=(Path(destination),),
        holds=lambda folder: (folder / "content").exists(),
        check=check,
        advice="",
        destination=Path(destination),
        fetch_steps=tuple(steps),
    )


def made(temporary: Path, content: str) -> Path:
    folder = temporary / "made"
    folder.mkdir()
    (folder / "content").write_text(content)
    return folder


def test_another_process_that_was_faster_is_left_alone(bare_machine):
    def slow(temporary):
        Path("data/set").mkdir()
        Path("data/set/content").write_text("theirs")
        return made(temporary, "ours")

    assert fetch(files_of([places.FetchStep("slow", slow)]), lambda line: None) == []
    assert Path("data/set/content").read_text() == "theirs"
    assert os.listdir("data") == ["set"]


def test_a_foreign_folder_at_the_destination_is_left_alone(bare_machine):
    Path("data/set").mkdir(parents=True)
    Path("data/set/notes").write_text("mine")
    step = places.FetchStep("step", lambda temporary: made(temporary, "ours"))
    (failure,) = fetch(files_of([step]), lambda line: None)
    assert failure.startswith("step: ")
    assert os.listdir("data/set") == ["notes"]


def test_an_interrupted_fetch_leaves_nothing(bare_machine):
    def interrupted(temporary):
        made(temporary, "ours")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(files_of([places.FetchStep("step", interrupted)]), lambda line: None)
    assert os.listdir("data") == []


def test_a_folder_that_cannot_be_written_is_a_failure_like_others(bare_machine):
    Path("data").write_text("a file is in the way")
    step = places.FetchStep("step", lambda temporary: made(temporary, "ours"))
    (failure,) = fetch(files_of([step]), lambda line: None)
    assert failure.startswith("step: ")


def test_a_command_that_hangs_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "COMMAND_TIMEOUT", 0.2)
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match="took more than"):
        fetching._command(["sleep", "20"], tmp_path)
    assert time.monotonic() - begin < 5


def test_two_processes_at_once(bare_machine, tmp_path):
    program = """
import sys, time
from pathlib import Path
from nfrepro.data import fetching, places
def make(temporary):
    (temporary / "made").mkdir()
    for part in range(20):
        (temporary / "made" / f"part{part}").write_text("x")
        time.sleep(0.005)
    return temporary / "made"
def check(folder):
    assert len(list(folder.iterdir())) == 20
files = places.Files("set", (Path("data/set"),), lambda folder: (folder / "part0").exists(), check, "",
                     Path("data/set"), (places.FetchStep("step", make),))
sys.exit("; ".join(fetching.fetch(files, lambda line: None)) or 0)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    processes = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE) for _ in range(2)
    ]
    for process in processes:
        assert process.communicate()[1] == b""
        assert process.returncode == 0
    assert len(os.listdir("data/set")) == 20
    assert os.listdir("data") == ["set"]
