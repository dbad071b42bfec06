"""A large set in folders: listed, read by worker processes, never held in memory."""

import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop, functional

from nfrepro.data.batches import test_batches as read_tests
from nfrepro.data.batches import train_batches
from nfrepro.data.evaluation_images import PaddedCrop, read_image
from nfrepro.data.image_files import Readers
from nfrepro.data.location import locate
from nfrepro.data.options import ImageNetOptions
from nfrepro.data.probe_batch import image_batch
from nfrepro.data.sources import load
from nfrepro.errors import InputError
from nfrepro.seeding import stream_seed

OPTIONS = ImageNetOptions(classes=3, pixels=24, randaugment_layers=1, mixing="mixup_cutmix")
CLASSES = ("n01", "n02", "n03")
MEAN, STD = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
Batch = tuple[Tensor, Tensor]


def picture(width: int, height: int, seed: int) -> Image.Image:
    """A smooth random picture."""
    cells = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(bare_machine: Path) -> Path:
    """Three classes of JPEG files of several sizes: 42 train images, 9 test images."""
    folder = Path("data/imagenet")
    for split, count in (("train", 14), ("val", 3)):
        for label, name in enumerate(CLASSES):
            path = folder / split / name
            path.mkdir(parents=True)
            for number in range(count):
                seed = 100 * label + number + (split == "val") * 1000
                picture(30 + 3 * number, 50 - 2 * number, seed).save(path / f"{number:02}.JPEG", quality=95)
    return folder


def taken(options: ImageNetOptions = OPTIONS, epoch: int = 0, **arguments: object) -> list[Batch]:
    return list(train_batches(load(options), options, 8, 1, epoch, **arguments))  # type: ignore[arg-type]


def equal(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a, b) for left, right in zip(one, two, strict=True) for a, b in zip(left, right, strict=True)
    )


def both_refuse(match: str, options: ImageNetOptions = OPTIONS) -> None:
    for action in (locate, load):
        with pytest.raises(InputError, match=match) as caught:
            action(options)
        assert "\n" not in str(caught.value)


def test_a_data_set_without_its_pixels(folder: Path) -> None:
    assert locate(OPTIONS, fetch=False) == folder
    dataset = load(OPTIONS.model_copy(update={"test_pixels": 32}))
    assert (len(dataset.train), len(dataset.test), dataset.num_classes, dataset.channels) == (42, 9, 3, 3)
    assert (dataset.pixels, dataset.test.pixels, dataset.classes) == (24, 32, CLASSES)
    assert dataset.train.labels.tolist() == [0] * 14 + [1] * 14 + [2] * 14
    assert (dataset.mean, dataset.std, dataset.label) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "ImageNet")
    assert dataset.device == torch.device("cpu")


def test_workers_change_no_bit_and_leave_the_generator_alone(folder: Path) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    whole = taken()
    assert [tuple(x.shape) for x, _ in whole] == [(8, 3, 24, 24)] * 5
    for x, targets in whole:
        assert x.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(targets.sum(1), torch.ones(8))
    assert equal(taken(workers=2), whole)
    assert torch.equal(torch.get_rng_state(), state)
    assert not equal(taken(epoch=1), whole)


def test_rows_and_resumed_epochs_are_parts_of_the_whole(folder: Path) -> None:
    expected = [(x[3:7], targets[3:7]) for x, targets in taken()[2:]]
    assert equal(taken(first_step=2, rows=range(3, 7), workers=1), expected)


def test_pieces_of_a_large_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nfrepro.data import image_files

    whole = taken()
    monkeypatch.setattr(image_files, "IMAGES_OF_A_PIECE", 3)
    assert equal(taken(), whole)


def test_a_plain_image_is_the_centre_of_its_file(folder: Path) -> None:
    plain = ImageNetOptions(classes=3, pixels=24, crop="padded", crop_padding=0, flip=False)
    ((x, labels),) = train_batches(load(plain), plain, 42, 0, 0)
    order = torch.randperm(42, generator=torch.Generator().manual_seed(stream_seed("order", 0, 0))).tolist()
    for image, label, number in zip(x, labels.tolist(), order, strict=True):
        file = Image.open(folder / "train" / CLASSES[number // 14] / f"{number % 14:02}.JPEG")
        resized = functional.resize(file, 24, InterpolationMode.BICUBIC)
        expected = np.asarray(functional.center_crop(resized, [24, 24]), float).transpose(2, 0, 1)
        np.testing.assert_allclose((image * STD + MEAN) * 255, expected, atol=1e-3)
        assert label == number // 14


def test_an_inception_crop_is_a_part_of_its_file(folder: Path) -> None:
    """Pictures whose colour says where a pixel is: a crop is a linear map of them."""
    for path in sorted((folder / "train").rglob("*.JPEG")):
        rows, columns = np.mgrid[0:96, 0:96]
        place = np.stack([2.5 * rows, 2.5 * columns, 0 * rows], 2)
        Image.fromarray(place.astype(np.uint8)).save(path, "PNG")
    options = ImageNetOptions(classes=3, pixels=24)
    areas, mirrored = [], 0
    for epoch in range(8):
        for x, _ in train_batches(load(options), options, 42, 0, epoch):
            levels = ((x * STD + MEAN) * 255 / (2.5 * 96)).numpy()  # 0 to 1 from edge to edge
            height = (levels[:, 0, 20] - levels[:, 0, 3]).mean(1) * 24 / 17
            width = (levels[:, 1, :, 20] - levels[:, 1, :, 3]).mean(1) * 24 / 17
            areas += list(height * np.abs(width))
            mirrored += int((width < 0).sum())
    assert 0.05 < min(areas) < 0.2
    assert 0.8 < max(areas) < 1.1
    assert 0.4 < mirrored / len(areas) < 0.6
    torch.manual_seed(0)
    theirs = [RandomResizedCrop.get_params(torch.empty(3, 96, 96), [0.08, 1.0], [3 / 4, 4 / 3]) for _ in areas]
    assert stats.ks_2samp(areas, [box[2] * box[3] / 96**2 for box in theirs]).pvalue > 1e-3


@pytest.mark.parametrize("workers", [0, 1])
def test_test_images_are_the_authors(folder: Path, workers: int) -> None:
    batches = list(read_tests(load(OPTIONS.model_copy(update={"test_pixels": 40})), 4, workers))
    assert [len(labels) for _, labels in batches] == [4, 4, 1]
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for image, path in zip(images, sorted((folder / "val").rglob("*.JPEG")), strict=True):
        assert np.array_equal(image.numpy(), read_image(path, 40, PaddedCrop(32)))
    assert batches[0][0].is_contiguous(memory_format=torch.channels_last)


def test_the_batch_of_a_probe(folder: Path) -> None:
    x = image_batch(load(OPTIONS), 5, 20, 0)
    assert x.shape == (5, 3, 20, 20)
    assert torch.equal(x, image_batch(load(OPTIONS), 5, 20, 0))
    assert not torch.equal(x, image_batch(load(OPTIONS), 5, 20, 1))


def test_a_subset_is_fixed_and_part_of_a_larger_one(folder: Path) -> None:
    few, more = (load(OPTIONS.model_copy(update={"train_images": count})).train for count in (6, 20))
    assert len(few) == 6
    assert set(few.names) < set(more.names)
    with pytest.raises(InputError, match="train_images 43 is more than the 42 train images"):
        load(OPTIONS.model_copy(update={"train_images": 43}))


def test_the_fingerprint_is_of_names_and_sizes(folder: Path) -> None:
    before = load(OPTIONS).fingerprint
    path = folder / "train/n02/03.JPEG"
    path.touch()
    assert load(OPTIONS).fingerprint == before
    path.rename(path.with_name("99.JPEG"))
    renamed = load(OPTIONS).fingerprint
    picture(90, 90, 0).save(path.with_name("99.JPEG"))
    assert len({before, renamed, load(OPTIONS).fingerprint}) == 3


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", ["text", "empty", "truncated", "gone"])
def test_a_damaged_file_is_named_in_one_line(folder: Path, damage: str, workers: int) -> None:
    path = folder / "train/n02/05.JPEG"
    dataset = load(OPTIONS)
    content = {"text": b"hello", "empty": b"", "truncated": path.read_bytes()[:300]}
    path.unlink()
    if damage in content:
        path.write_bytes(content[damage])
    with pytest.raises(InputError, match=r"data/imagenet/train/n02/05\.JPEG: not a readable image") as caught:
        list(train_batches(dataset, OPTIONS, 40, 0, 0, workers=workers))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_split(folder: Path, split: str) -> None:
    shutil.rmtree(folder / split)
    both_refuse(f"data/imagenet: no folder {split}")


def test_the_test_split_is_val(folder: Path) -> None:
    (folder / "val").rename(folder / "test")
    both_refuse("data/imagenet: no folder val")


@pytest.mark.parametrize(("split", "other"), [("val", "train"), ("train", "val")])
def test_class_folders_that_differ_are_named(folder: Path, split: str, other: str) -> None:
    for name in ("n04", "n05", "n06", "n07"):
        shutil.copytree(folder / other / "n01", folder / other / name)
    both_refuse(f"imagenet/{split}: 4 class folders missing \\(n04, n05, n06, …\\)")


@pytest.mark.parametrize("classes", [2, 4, 1000])
def test_another_number_of_classes(folder: Path, classes: int) -> None:
    options = OPTIONS.model_copy(update={"classes": classes})
    both_refuse(rf"3 class folders \(n01, n02, n03\) where data\.classes is {classes:,}", options)


def test_no_folder_at_all(bare_machine: Path) -> None:
    both_refuse("ImageNet folder imagenet: not found in data/imagenet: put train/<class>/ and val/<class>/")


def children() -> set[multiprocessing.process.BaseProcess]:
    """Those of this process that are alive; other tests may have left some that nothing has collected yet."""
    return set(multiprocessing.active_children())


def test_a_signal_to_all_processes_costs_no_batch(folder: Path) -> None:
    """As a scheduler sends it before a time limit: the main process stops between two steps, and saves."""
    whole = taken()
    before = children()
    batches = train_batches(load(OPTIONS), OPTIONS, 8, 1, 0, workers=2)
    found = [next(batches), next(batches)]  # one of each worker: both have begun
    workers = children() - before
    assert len(workers) == 2
    for worker in workers:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(worker.pid, number)
    assert equal(found + list(batches), whole)


def test_workers_end_with_the_batches(folder: Path) -> None:
    before = children()
    batches = train_batches(load(OPTIONS), OPTIONS, 8, 1, 0, workers=2)
    next(batches)
    workers = children() - before
    assert len(workers) == 2
    batches.close()
    assert not workers & children()


def test_readers_outlast_epochs_and_evaluations(folder: Path) -> None:
    before, dataset = children(), load(OPTIONS)
    with Readers(2, dataset.device) as readers:
        assert children() == before  # until there is something to read
        first = list(train_batches(dataset, OPTIONS, 8, 1, 0, workers=readers))
        workers = children() - before
        assert len(workers) == 2
        assert equal(list(read_tests(dataset, 4, readers)), list(read_tests(dataset, 4)))
        abandoned = train_batches(dataset, OPTIONS, 8, 1, 0, workers=readers)
        next(abandoned)
        abandoned.close()
        second = list(train_batches(dataset, OPTIONS, 8, 1, 1, first_step=2, workers=readers))
        assert children() - before == workers
    assert not workers & children()
    assert equal(first, taken())
    assert equal(second, taken(epoch=1)[2:])


def test_a_reader_that_dies_is_an_error_and_leaves_no_other(folder: Path) -> None:
    """One of two, while batches are read: torch raises its error wherever this process is at."""
    before, dataset, workers = children(), load(OPTIONS), set[multiprocessing.process.BaseProcess]()
    with pytest.raises(RuntimeError, match="worker"), Readers(2, torch.device("cpu")) as readers:  # noqa: PT012
        for epoch in range(10_000):
            list(train_batches(dataset, OPTIONS, 8, 1, epoch, workers=readers))
            if not workers:
                workers = children() - before
                os.kill(next(iter(workers)).pid, signal.SIGKILL)
    assert len(workers) == 2
    assert not workers & children()
