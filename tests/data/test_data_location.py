import gzip
import os
import shutil
from pathlib import Path

import pytest

from nfrepro.data import checksums, fashion_mnist
from nfrepro.data.location import locate
from nfrepro.data.options import CIFAR10Options, FashionMNISTOptions, ImageFolderOptions, SyntheticOptions
from nfrepro.errors import InputError

OPTIONS = FashionMNISTOptions()


def test_look_up_order(bare_machine, put_tiny, tmp_path, monkeypatch):
    first, second, installed = tmp_path / "first", tmp_path / "second", tmp_path / "installed"
    monkeypatch.setenv("NFREPRO_DATA", f"{first}{os.pathsep}{second}")
    monkeypatch.setattr(fashion_mnist, "INSTALLED_FOLDER", installed)
    order = [
        *(root / part for root in (first, second, Path("data")) for part in ("fashion-mnist", "FashionMNIST/raw", "")),
        installed,
    ]
    for place in order:
        put_tiny(place)
    # What is found is taken away, until nothing is left.
    for place in order:
        assert locate(OPTIONS, fetch=False) == place
        for file in place.glob("*.gz"):
            file.unlink()
    with pytest.raises(InputError):
        locate(OPTIONS, fetch=False)


def test_synthetic_needs_no_files(bare_machine):
    assert locate(SyntheticOptions()) is None


def test_uncompressed_files_are_accepted(bare_machine, put_tiny):
    put_tiny(Path("data/fashion-mnist"), compressed=False)
    assert locate(OPTIONS, fetch=False) == Path("data/fashion-mnist")


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("damage", ["cut gzip", "other content", "no gzip", "empty", "cut plain"])
def test_a_damaged_file_is_refused_by_name_and_never_skipped(bare_machine, put_tiny, name, damage):
    put_tiny(Path("data"))  # a good copy that comes later in the order
    folder = put_tiny(Path("data/fashion-mnist"), compressed=damage != "cut plain")
    path = folder / (name if damage == "cut plain" else f"{name}.gz")
    content = path.read_bytes()
    damaged = {
        "cut gzip": content[:-9],
        "other content": gzip.compress(b"x" + gzip.decompress(content)[1:]) if damage == "other content" else b"",
        "no gzip": b"<html>not found</html>",
        "empty": b"",
        "cut plain": content[:-1],
    }[damage]
    path.write_bytes(damaged)
    with pytest.raises(InputError) as caught:
        locate(OPTIONS)
    message = str(caught.value)
    expected = fashion_mnist.FILES[name].digest
    assert message.startswith(f"{path}: truncated or altered (expected sha256 {expected}, found ")
    assert message.endswith("): delete it and run again")
    assert "\n" not in message
    assert path.read_bytes() == damaged


def test_a_missing_file_among_the_four_is_refused_by_name(bare_machine, put_tiny):
    put_tiny(Path("data"))
    folder = put_tiny(Path("data/fashion-mnist"))
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"data/fashion-mnist/t10k-images-idx3-ubyte\.gz: missing"):
        locate(OPTIONS)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("kind", ["link to nowhere", "folder"])
def test_what_is_no_file_is_refused_by_name_and_never_skipped(bare_machine, put_tiny, alone, kind):
    put_tiny(Path("data"))
    folder = put_tiny(Path("data/fashion-mnist"))
    path = folder / "train-images-idx3-ubyte.gz"
    for file in folder.iterdir():
        if alone or file == path:
            file.unlink()
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz: cannot be read"):
        locate(OPTIONS)


def test_the_real_checksums_refuse_other_files(bare_machine, put_tiny, monkeypatch):
    put_tiny(Path("data"))
    monkeypatch.undo()
    monkeypatch.chdir(bare_machine)
    monkeypatch.delenv("NFREPRO_DATA", raising=False)
    with pytest.raises(InputError, match="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"):
        locate(OPTIONS, fetch=False)


def test_reading_stops_at_the_largest_size(bare_machine, put_tiny, monkeypatch):
    folder = put_tiny(Path("data"))

    class Endless:
        total = 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, size):
            self.total += size
            assert self.total < 10_000, "reads on without end"
            return bytes(size)

    monkeypatch.setattr(checksums, "MAX_BYTES", 5000)
    monkeypatch.setattr(checksums, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(gzip, "GzipFile", lambda fileobj: Endless())
    with pytest.raises(InputError, match="truncated or altered"):
        locate(OPTIONS)
    assert folder.exists()


@pytest.mark.parametrize(
    ("options", "title", "looked", "advice"),
    [
        (OPTIONS, "Fashion-MNIST", "mine/FashionMNIST/raw", "apt-get install dataset-fashion-mnist"),
        (CIFAR10Options(), "CIFAR-10", "mine/cifar10-images", "data/cifar-10-batches-py"),
        (ImageFolderOptions(folder="birds", pixels=8), "image folder birds", "mine/birds", "train/<class>/"),
    ],
)
def test_missing_data_says_where_it_looked_and_what_to_do(bare_machine, monkeypatch, options, title, looked, advice):
    monkeypatch.setenv("NFREPRO_DATA", "mine")
    with pytest.raises(InputError) as caught:
        locate(options, fetch=False)
    message = str(caught.value)
    assert message.startswith(f"{title}: not found in mine")
    for part in (looked, "data", advice, "set NFREPRO_DATA"):
        assert part in message
    assert "\n" not in message
    assert not Path("data").exists()


def test_cifar10_look_up_order(bare_machine, tmp_path, monkeypatch):
    from nfrepro.data import cifar10

    root = tmp_path / "root"
    monkeypatch.setenv("NFREPRO_DATA", str(root))
    monkeypatch.setattr(cifar10, "TRAIN_IMAGES_PER_CLASS", 1)
    monkeypatch.setattr(cifar10, "TEST_IMAGES_PER_CLASS", 1)
    order = [
        parent / name
        for parent in (root, Path("data"))
        for name in ("cifar10", "cifar-10", "cifar10-images", "cifar-10-batches-py", "")
    ]
    for place in order:
        for split in ("train", "test"):
            for name in cifar10.CLASSES:
                (place / split / name).mkdir(parents=True)
                (place / split / name / "1.jpg").touch()
    for place in order:
        assert locate(CIFAR10Options(), fetch=False) == place
        shutil.rmtree(place / "train")
