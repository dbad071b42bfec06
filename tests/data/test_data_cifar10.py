import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nfrepro.data import cifar10
from nfrepro.data.checksums import Checksum
from nfrepro.data.location import locate
from nfrepro.data.options import CIFAR10Options
from nfrepro.data.sources import load
from nfrepro.errors import InputError

OPTIONS = CIFAR10Options()
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


@pytest.fixture
def batches(bare_machine, monkeypatch) -> dict[str, dict]:
    """Six batches of two images, pickled as Python 2 and an old NumPy did, with a checksum table that knows them."""
    folder = Path("data/cifar-10-batches-py")
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    made, table = {}, {}
    for number, name in enumerate(BATCHES):
        images = random.integers(0, 256, (2, 3 * 32 * 32), np.uint8)
        made[name] = {"data": images, "labels": [number, (number + 5) % 10]}
        content = pickle.dumps(made[name], protocol=2).replace(b"numpy._core.", b"numpy.core.")
        (folder / name).write_bytes(content)
        table[name] = Checksum("md5", hashlib.md5(content).hexdigest())
    monkeypatch.setattr(cifar10, "TRAIN_BATCHES", {name: table[name] for name in BATCHES[:5]})
    monkeypatch.setattr(cifar10, "TEST_BATCHES", {name: table[name] for name in BATCHES[5:]})
    return made


def test_reads_the_batches(batches):
    assert locate(OPTIONS, fetch=False) == Path("data/cifar-10-batches-py")
    dataset = load(OPTIONS)
    expected = np.concatenate([batches[name]["data"] for name in BATCHES[:5]]).reshape(10, 3, 32, 32)
    np.testing.assert_array_equal(dataset.train.images.numpy(), expected)
    assert dataset.train.labels.tolist() == [0, 5, 1, 6, 2, 7, 3, 8, 4, 9]
    assert dataset.test.labels.tolist() == [5, 0]
    assert (dataset.label, dataset.num_classes, dataset.channels, dataset.pixels) == ("CIFAR-10", 10, 3, 32)
    assert dataset.mean == (0.4914, 0.4822, 0.4465)
    assert dataset.std == (0.2470, 0.2435, 0.2616)


def test_the_checksums_are_torchvisions():
    from torchvision.datasets import CIFAR10

    known = {name: checksum.digest for name, checksum in (cifar10.TRAIN_BATCHES | cifar10.TEST_BATCHES).items()}
    assert known == dict(CIFAR10.train_list + CIFAR10.test_list)


class CreatesFile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_hostile_pickle_is_refused_and_never_opened(batches, tmp_path):
    trace = tmp_path / "trace"
    hostile = pickle.dumps(CreatesFile(trace))
    pickle.loads(hostile)
    assert trace.exists(), "the pickle is not as hostile as this test needs"
    trace.unlink()
    for name in BATCHES:
        path = Path("data/cifar-10-batches-py") / name
        good = path.read_bytes()
        path.write_bytes(hostile)
        for action in (locate, load):
            with pytest.raises(InputError, match=f"{path}: truncated or altered"):
                action(OPTIONS)
        path.write_bytes(good)
    assert not trace.exists()


def test_a_missing_batch_is_refused_by_name(batches):
    Path("data/cifar-10-batches-py/data_batch_3").unlink()
    for action in (locate, load):
        with pytest.raises(InputError, match="data_batch_3: cannot be read"):
            action(OPTIONS)


@pytest.fixture
def tree(bare_machine, monkeypatch) -> Path:
    """Two train images and one test image a class, each of one grey level of its own."""
    folder = Path("data/cifar10-images")
    monkeypatch.setattr(cifar10, "TRAIN_IMAGES_PER_CLASS", 2)
    monkeypatch.setattr(cifar10, "TEST_IMAGES_PER_CLASS", 1)
    for label, name in enumerate(cifar10.CLASSES):
        for split, number, level in (("train", 0, 0), ("train", 1, 100), ("test", 0, 200)):
            path = folder / split / name / f"{number:04}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (level + label, level + 2 * label, level + 3 * label)).save(path, quality=100)
    return folder


def test_reads_the_folders(tree):
    assert locate(OPTIONS, fetch=False) == tree
    dataset = load(OPTIONS)
    labels = np.repeat(np.arange(10), 2)
    assert dataset.train.labels.tolist() == labels.tolist()
    assert dataset.test.labels.tolist() == list(range(10))
    assert dataset.train.images.shape == (20, 3, 32, 32)
    colours = np.tile([0, 100], 10)[:, None] + labels[:, None] * np.array([1, 2, 3])
    expected = np.broadcast_to(colours[:, :, None, None], (20, 3, 32, 32))
    assert np.abs(dataset.train.images.numpy().astype(int) - expected).max() <= 2  # JPEG is lossy
    assert dataset.label == "CIFAR-10 (JPEG)"
    assert dataset.classes == cifar10.CLASSES
    values = dataset.train.images.numpy() / 255
    np.testing.assert_allclose(dataset.mean, values.mean((0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(dataset.std, values.std((0, 2, 3)), rtol=1e-9)


def test_a_tree_unpacked_in_part_is_refused(tree):
    (tree / "train" / "frog" / "0001.jpg").unlink()
    for action in (locate, load):
        with pytest.raises(InputError, match="train/frog: 1 images, but CIFAR-10 has 2"):
            action(OPTIONS)


def test_other_classes_are_refused(tree):
    for split in ("train", "test"):
        (tree / split / "frog").rename(tree / split / "toad")
    with pytest.raises(InputError, match="class folders are not CIFAR-10's"):
        locate(OPTIONS)


def test_an_image_of_another_size_is_refused_by_name(tree):
    Image.new("RGB", (33, 32)).save(tree / "test" / "cat" / "0000.jpg")
    with pytest.raises(InputError, match=r"test/cat/0000\.jpg: 33×32 pixels instead of 32×32"):
        load(OPTIONS)
