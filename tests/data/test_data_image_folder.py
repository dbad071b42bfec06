import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional

from nfrepro.data import image_folder
from nfrepro.data.location import locate
from nfrepro.data.options import ImageFolderOptions
from nfrepro.data.sources import load
from nfrepro.errors import InputError

OPTIONS = ImageFolderOptions(folder="mine/flowers", pixels=20)


def picture(width: int, height: int, seed: int) -> Image.Image:
    """A smooth random picture."""
    cells = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(bare_machine) -> Path:
    """Classes rose and tulip, PNG files of several sizes."""
    folder = Path("data/mine/flowers")
    sizes = {"b.png": (64, 40), "a.PNG": (40, 80), "c.png": (20, 20)}
    for split in ("train", "test"):
        for label, name in enumerate(("rose", "tulip")):
            path = folder / split / name
            path.mkdir(parents=True)
            for seed, (file, size) in enumerate(sizes.items()):
                picture(*size, seed=10 * label + seed).save(path / file)
    return folder


def both_refuse(match: str, options: ImageFolderOptions = OPTIONS) -> None:
    for action in (locate, load):
        with pytest.raises(InputError, match=match) as caught:
            action(options)
        assert "\n" not in str(caught.value)


def test_resizes_and_cuts_the_centre_as_torchvision_does(folder):
    assert locate(OPTIONS, fetch=False) == folder
    dataset = load(OPTIONS)
    paths = [folder / "train" / name / file for name in ("rose", "tulip") for file in ("a.PNG", "b.png", "c.png")]
    for image, path in zip(dataset.train.images, paths, strict=True):
        expected = functional.center_crop(functional.resize(Image.open(path), [20]), [20])
        difference = image.numpy().astype(int) - np.asarray(expected, int).transpose(2, 0, 1)
        assert np.abs(difference).max() <= 1  # one grey level of rounding
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert (dataset.classes, dataset.label, dataset.pixels) == (("rose", "tulip"), "image folder mine/flowers", 20)


def test_many_images_keep_their_order(bare_machine):
    for split in ("train", "test"):
        for name in ("a", "b"):
            path = Path("data/mine/flowers") / split / name
            path.mkdir(parents=True)
            for number in range(100):
                Image.new("L", (20, 20), number + 100 * (name == "b")).save(path / f"{number:03}.png")
    images = load(OPTIONS).train.images
    assert images[:, 0, 0, 0].tolist() == list(range(200))
    assert (images == images[:, :1, :1, :1]).all()


def test_statistics_are_of_the_whole_train_split_never_of_test(folder):
    before = load(OPTIONS)
    values = before.train.images.numpy() / 255
    np.testing.assert_allclose(before.mean, values.mean((0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(before.std, values.std((0, 2, 3)), rtol=1e-9)
    for path in (folder / "test" / "rose").iterdir():
        Image.new("RGB", (20, 20), (255, 0, 0)).save(path)
    after = load(OPTIONS.model_copy(update={"train_images": 2}))
    assert (after.mean, after.std) == (before.mean, before.std)
    assert len(after.train) == 2


def test_a_channel_of_one_value_is_not_divided_by_zero(folder):
    for path in folder.glob("train/*/*"):
        Image.new("RGB", (20, 20), (51, 0, 102)).save(path)
    dataset = load(OPTIONS)
    assert dataset.mean == pytest.approx([0.2, 0.0, 0.4])
    assert dataset.std == (1.0, 1.0, 1.0)


def test_val_serves_as_test(folder):
    (folder / "test").rename(folder / "val")
    assert len(load(OPTIONS).test) == 6


def test_first_root_wins(folder, tmp_path, monkeypatch):
    root = tmp_path / "root"
    monkeypatch.setenv("NFREPRO_DATA", str(root))
    assert locate(OPTIONS) == folder
    shutil.copytree(folder, root / "mine/flowers")
    assert locate(OPTIONS) == root / "mine/flowers"


def test_no_train_folder(folder):
    shutil.rmtree(folder / "train")
    both_refuse("data/mine/flowers: no folder train")


def test_no_test_folder(folder):
    shutil.rmtree(folder / "test")
    both_refuse("data/mine/flowers: no folder test or val")


def test_no_class_folders(folder):
    shutil.rmtree(folder / "train")
    (folder / "train").mkdir()
    picture(20, 20, 0).save(folder / "train" / "rose.png")
    both_refuse("mine/flowers/train: no class folders")


@pytest.mark.parametrize(("split", "other"), [("test", "train"), ("train", "test")])
def test_a_class_missing_in_one_split(folder, split, other):
    shutil.rmtree(folder / split / "tulip")
    both_refuse(rf"mine/flowers/{split}: 1 class folders missing \(tulip\)")


def test_a_class_without_images(folder):
    for path in (folder / "test" / "rose").iterdir():
        path.rename(path.with_suffix(".txt"))
    both_refuse("mine/flowers/test/rose: no images")


@pytest.mark.parametrize("damage", ["text", "empty", "truncated"])
def test_an_unreadable_image_is_named(folder, damage):
    path = folder / "train" / "tulip" / "b.png"
    path.write_bytes({"text": b"hello", "empty": b"", "truncated": path.read_bytes()[:200]}[damage])
    with pytest.raises(InputError, match=r"mine/flowers/train/tulip/b\.png: not a readable image"):
        load(OPTIONS)


def test_a_decompression_bomb_is_named(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)  # Pillow refuses twice as many; a.PNG has 3,200
    with pytest.raises(
        InputError, match=r"mine/flowers/train/rose/a\.PNG: too many pixels for an image: make it smaller"
    ):
        load(OPTIONS)


def test_more_than_the_memory_holds_is_refused_before_anything_is_decoded(folder, monkeypatch):
    size = 12 * 3 * 20 * 20  # bytes of all 12 images
    monkeypatch.setattr(image_folder, "MAX_DECODED_BYTES", size)
    assert len(load(OPTIONS).train) == 6
    monkeypatch.setattr(image_folder, "MAX_DECODED_BYTES", size - 1)
    monkeypatch.setattr(image_folder, "read_split", lambda *_, **__: pytest.fail("decodes"))
    both_refuse("12 images of 20×20 pixels are 0.0 GiB decoded")


def test_the_limit_is_eight_gibibytes():
    assert image_folder.MAX_DECODED_BYTES == 8 * 1024**3


def test_a_very_long_image_needs_no_more_memory_than_others(folder):
    Image.new("L", (20_000, 1), 7).save(folder / "train" / "rose" / "b.png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = load(ImageFolderOptions(folder="mine/flowers", pixels=100)).train.images[1]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (image == 7).all()
    assert grown < 100_000  # KiB; resized as a whole it would be 600 MB


@pytest.mark.parametrize("what", ["image", "class", "split"])
def test_links_that_lead_out_of_the_folder_are_refused(folder, tmp_path, what):
    target = {"image": folder / "train/rose/b.png", "class": folder / "train/rose", "split": folder / "train"}[what]
    outside = tmp_path / f"outside{target.suffix}"
    target.rename(outside)
    target.symlink_to(outside)
    both_refuse(f"{target}: a link out of data/mine/flowers")


def test_links_within_the_folder_are_followed(folder):
    (folder / "train/rose/d.png").symlink_to("b.png")
    images = load(OPTIONS).train.images
    assert (images[3] == images[1]).all()
