"""One reader of image files for all data sets: what counts as an image, what is decoded, and what is left out."""

import os
import struct
import subprocess
import sys
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_experiment import Call
from torchvision.datasets.folder import pil_loader

from nfrepro.data import image_tree
from nfrepro.data.evaluation_images import PaddedCrop, list_test_images, read_batches
from nfrepro.data.image_reader import read_rgb
from nfrepro.data.image_tree import list_tree, read_split
from nfrepro.data.location import locate
from nfrepro.data.options import CIFAR10Options, ImageFolderOptions, ImageNetOptions
from nfrepro.data.probe_batch import folder_batch
from nfrepro.data.sources import load
from nfrepro.errors import InputError


def picture(path: Path, value: int = 100, side: int = 8, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(path, **options)
    return path


def deep_png(path: Path, color: int, side: int = 8) -> Path:
    """A PNG of 16 bits a channel, by the format's definition; `color` 0: grey, 2: RGB, 4: grey, alpha, 6: RGBA."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    rows = b"".join(b"\0" + bytes((7 * n) % 256 for n in range(2 * side * channels)) for _ in range(side))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, color, 0, 0, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def tree(folder: Path, classes: tuple[str, ...] = ("a", "b"), test: str = "test", ending: str = "png") -> Path:
    for split, count in (("train", 3), (test, 2)):
        for number, name in enumerate(classes):
            for image in range(count):
                picture(folder / split / name / f"{image}.{ending}", 20 * number + image)
    return folder


def by_image_folder(root: Path) -> object:
    return load(ImageFolderOptions(folder="mine", pixels=8))


def by_imagenet(root: Path) -> object:
    (root / "mine/test").rename(root / "mine/val")
    dataset = load(ImageNetOptions(folder="mine", classes=2, pixels=8))
    assert not isinstance(dataset.train, type(None))
    return [dataset.train.centres(range(len(dataset.train)))]  # type: ignore[union-attr]


def by_evaluation(root: Path) -> object:
    return list(read_batches(list_test_images(root / "mine/train"), 8, PaddedCrop(2), 4))


def by_spp(root: Path) -> object:
    return folder_batch(root / "mine/train", 6, 8, 0)


READERS = {"image_folder": by_image_folder, "imagenet": by_imagenet, "evaluate": by_evaluation, "spp": by_spp}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NFREPRO_DATA", str(tmp_path))
    tree(tmp_path / "mine")
    return tmp_path


def too_large(path: Path) -> Path:
    """A PNG that claims 60,000 x 60,000 pixels."""
    picture(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    path.write_bytes(content)
    return path


def postscript(path: Path) -> Path:
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n{} loop\n")
    return path


def text(path: Path) -> Path:
    path.write_text("hello")
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


WRONG: dict[str, tuple[Callable[[Path], Path], str]] = {
    "16 bits, grey": (lambda path: deep_png(path, 0), "more than 8 bits a channel"),
    "16 bits, RGB": (lambda path: deep_png(path, 2), "more than 8 bits a channel"),
    "16 bits, RGBA": (lambda path: deep_png(path, 6), "more than 8 bits a channel"),
    "a bomb": (too_large, "too many pixels"),
    "PostScript": (postscript, "not a readable image .no JPEG, PNG, WebP or BMP file."),
    "a pipe": (pipe, "not a regular file"),
    "text": (text, "not a readable image"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("wrong", WRONG)
def test_every_reader_refuses_by_name_what_is_no_image_of_8_bits(root: Path, reader: str, wrong: str) -> None:
    make, message = WRONG[wrong]
    path = root / "mine/train/a/0.png"
    path.unlink()
    make(path)
    # Were Ghostscript started, or a pipe opened, this would never end.
    with pytest.raises(InputError, match=rf"mine/train/a/0\.png: {message}"):
        READERS[reader](root)


def test_ghostscript_is_never_started(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow by itself hands a PostScript file to the first `gs` on the path."""
    started = tmp_path / "started"
    gs = tmp_path / "bin/gs"
    gs.parent.mkdir()
    gs.write_text(f"#!/bin/sh\ntouch {started}\nexit 1\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{gs.parent}:{os.environ['PATH']}")
    path = postscript(tmp_path / "x.jpg")
    with pytest.raises(InputError, match="no JPEG, PNG, WebP or BMP file"):
        read_rgb(path)
    assert not started.exists()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "RGBA", "LA", "1"])
def test_images_become_rgb_as_torchvision_has_them(tmp_path: Path, mode: str) -> None:
    generator = np.random.default_rng(0)
    image = Image.fromarray(generator.integers(0, 256, (9, 7, 3), np.uint8)).convert(mode)
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    image.save(path)
    np.testing.assert_array_equal(np.asarray(read_rgb(path)), np.asarray(pil_loader(path)))


def test_the_orientation_in_exif_is_not_applied_as_in_torchvision(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    image = Image.fromarray(np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3))
    image.save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(read_rgb(tmp_path / "x.png")), np.asarray(image))


@pytest.mark.parametrize("ending", ["png", "JPG", "jpeg", "webp", "bmp"])
def test_every_documented_ending_counts_for_every_reader(tmp_path: Path, ending: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("NFREPRO_DATA", str(tmp_path))
    tree(tmp_path / "mine", ending=ending)
    for reader in ("image_folder", "evaluate", "spp", "imagenet"):
        READERS[reader](tmp_path)


def test_what_is_left_out_is_counted_and_named(root: Path) -> None:
    mine = root / "mine"
    (mine / "train/a/notes.txt").write_text("x")
    (mine / "train/a/.DS_Store").write_text("x")
    (mine / "train/b/more").mkdir()
    picture(mine / "train/b/more/0.png")
    (mine / "test/README.md").write_text("x")
    (mine / "train/.hidden").mkdir()
    said: list[str] = []
    locate(ImageFolderOptions(folder="mine", pixels=8), report=said.append)
    assert said == [
        "image folder mine: 6 training and 4 test images in 2 classes; 5 other entries are left out "
        "(train/.hidden, train/a/.DS_Store, train/a/notes.txt, …)"
    ]
    assert load(ImageFolderOptions(folder="mine", pixels=8)).left_out == 5
    (mine / "test").rename(mine / "val")
    assert load(ImageNetOptions(folder="mine", classes=2, pixels=8)).left_out == 5
    assert list_test_images(mine / "train").left_out == (".hidden", "a/.DS_Store", "a/notes.txt", "b/more")


def test_classes_named_by_labels_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    names = tuple(str(number) for number in range(12))
    tree(tmp_path, names)
    assert list_tree(tmp_path).classes == names
    images = list_test_images(tmp_path / "test")
    assert images.classes == names
    assert all(path.parent.name == str(label) for path, label in zip(images.paths, images.labels, strict=True))
    for split in ("train", "test"):
        (tmp_path / split / "11").rename(tmp_path / split / "12")  # no longer 0 to N - 1: names
    assert list_tree(tmp_path).classes == tuple(sorted([*names[:-1], "12"]))


def test_one_class_is_too_few(tmp_path: Path) -> None:
    tree(tmp_path, ("a",))
    with pytest.raises(InputError, match=r"train: only one class folder .a.: .* two or more"):
        list_tree(tmp_path)
    with pytest.raises(InputError, match="test: only one class folder"):
        list_test_images(tmp_path / "test")


def test_unicode_forms_of_a_name_are_one_class(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Müll") for form in ("NFC", "NFD"))
    tree(tmp_path, (composed, "b"))
    (tmp_path / "test" / composed).rename(tmp_path / "test" / decomposed)
    found = list_tree(tmp_path)
    assert found.classes == tuple(found.test) == (composed, "b")
    tree(tmp_path, (decomposed,))
    with pytest.raises(InputError, match="two class folders named Müll, in different Unicode forms"):
        list_tree(tmp_path)


def test_a_folder_is_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = root / "mine"
    files = list_tree(mine).train
    first = read_split(mine, files, 8, resize=False)
    kept = list((mine / ".nfrepro").iterdir())
    assert [path.suffix for path in kept] == [".npy"]
    monkeypatch.setattr(image_tree, "_decode_one", lambda *_: pytest.fail("decoded again"))
    again = read_split(mine, files, 8, resize=False)
    np.testing.assert_array_equal(again.images, first.images)
    assert isinstance(again.images, np.memmap)
    torch.from_numpy(again.images)  # writable, as torch wants it
    monkeypatch.undo()
    for damage in (b"", kept[0].read_bytes()[:100], b"x" * 500):
        kept[0].write_bytes(damage)
        np.testing.assert_array_equal(read_split(mine, files, 8, resize=False).images, first.images)
    picture(mine / "train/a/0.png", 200)
    os.utime(mine / "train/a/0.png", ns=(1, 1))
    assert read_split(mine, files, 8, resize=False).images[0].max() == 200


def test_a_folder_that_cannot_be_written_is_decoded_each_time(root: Path) -> None:
    mine = root / "mine"
    (mine / ".nfrepro").write_text("in the way")
    assert len(read_split(mine, list_tree(mine).train, 8, resize=False).images) == 6
    assert len(load(ImageFolderOptions(folder="mine", pixels=8)).train) == 6


def test_processes_that_decode_at_once_leave_one_whole_file(root: Path) -> None:
    code = (
        "from nfrepro.data.sources import load; from nfrepro.data.options import ImageFolderOptions\n"
        "print(load(ImageFolderOptions(folder='mine', pixels=8)).fingerprint)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = {process.communicate()[0].strip() for process in processes}
    assert all(process.returncode == 0 for process in processes)
    assert found == {load(ImageFolderOptions(folder="mine", pixels=8)).fingerprint}
    assert sorted(path.suffix for path in (root / "mine/.nfrepro").iterdir()) == [".npy", ".npy"]


def test_a_sweep_and_a_plan_say_what_is_used_and_left_out(
    nfrepro: Call, root: Path, experiments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "mine/train/a/notes.txt").write_text("x")
    (experiments / "own.yaml").write_text(
        "title: own\ntask: train\nset:\n  data: {name: image_folder, folder: mine, pixels: 8}\n"
        "  model: {name: bn_resnet, blocks: [1], width: 0.0625, stem: small}\n"
        "  train: {epochs: 1, warmup_epochs: 0, batch_size: 2}\nscales: {smoke: {}}\n"
    )
    line = "image folder mine: 6 training and 4 test images in 2 classes; 1 other entry is left out (train/a/notes.txt)"
    planned = nfrepro("plan", "own", "--scale", "smoke")
    assert line in planned.stdout, planned.stderr
    swept = nfrepro("sweep", "own", "--scale", "smoke")
    assert swept.returncode == 0, swept.stderr
    assert line in swept.stdout + swept.stderr


def test_cifar10_from_files_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nfrepro.data import cifar10

    monkeypatch.setenv("NFREPRO_DATA", str(tmp_path))
    monkeypatch.setattr(cifar10, "TRAIN_IMAGES_PER_CLASS", 3)
    monkeypatch.setattr(cifar10, "TEST_IMAGES_PER_CLASS", 2)
    monkeypatch.setattr(cifar10, "PIXELS", 8)
    tree(tmp_path / "cifar10", cifar10.CLASSES)
    said: list[str] = []
    locate(CIFAR10Options(), report=said.append)
    assert said == ["CIFAR-10 (JPEG): 30 training and 20 test images in 10 classes"]
    assert load(CIFAR10Options()).label == "CIFAR-10 (JPEG)"
