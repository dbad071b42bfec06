import hashlib

import numpy as np
import pytest
import torch

from nfrepro.data.options import FashionMNISTOptions, SyntheticOptions
from nfrepro.data.sources import load
from nfrepro.errors import InputError
from nfrepro.seeding import stream_seed

SYNTHETIC = SyntheticOptions(classes=5, channels=3, pixels=12, train_images=103, test_images=21)
# The first of 100 images chosen of 1,000.
GOLDEN_SUBSET = [3, 13, 20, 29, 30, 33, 37, 55]


@pytest.fixture
def tiny(bare_machine, put_tiny):
    put_tiny(bare_machine / "data")


def rows(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


def test_synthetic_shapes():
    dataset = load(SYNTHETIC)
    assert dataset.train.images.shape == (103, 3, 12, 12)
    assert dataset.test.images.shape == (21, 3, 12, 12)
    assert dataset.train.images.dtype == torch.uint8
    assert dataset.train.labels.dtype == torch.int64
    assert (len(dataset.train), len(dataset.test)) == (103, 21)
    assert (dataset.num_classes, dataset.channels, dataset.pixels, dataset.label) == (5, 3, 12, "synthetic")
    assert torch.bincount(dataset.train.labels).tolist() == [21, 21, 21, 20, 20]


def test_synthetic_can_be_learnt_but_is_noisy():
    dataset = load(SYNTHETIC)
    train, test = dataset.train.images.flatten(1).float(), dataset.test.images.flatten(1).float()
    means = torch.stack([train[dataset.train.labels == label].mean(0) for label in range(5)])
    nearest = torch.cdist(test, means).argmin(1)
    assert (nearest == dataset.test.labels).float().mean() > 0.95
    assert len(set(rows(dataset.train.images))) == 103
    assert not set(rows(dataset.train.images)) & set(rows(dataset.test.images))


def test_synthetic_patterns_survive_a_flip():
    dataset = load(SYNTHETIC)
    for label in range(5):
        mean = dataset.train.images[dataset.train.labels == label].float().mean(0)
        assert (mean - mean.flip(-1)).abs().mean() < 15


def test_synthetic_depends_on_its_seed_alone():
    first, again = load(SYNTHETIC), load(SYNTHETIC.model_copy(update={"crop_padding": 0, "flip": False}))
    other = load(SYNTHETIC.model_copy(update={"data_seed": 1}))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_test_never_depends_on_train(tiny):
    for options in (SYNTHETIC, FashionMNISTOptions(test_images=2)):
        first, second = (load(options.model_copy(update={"train_images": count})) for count in (2, 4))
        assert torch.equal(first.test.images, second.test.images)
        assert torch.equal(first.test.labels, second.test.labels)
        assert len(first.train) == 2
        assert len(second.train) == 4


def test_the_fingerprint_is_of_what_is_used(tiny):
    for options in (SYNTHETIC, FashionMNISTOptions(), FashionMNISTOptions(train_images=3, test_images=1)):
        dataset = load(options)
        parts = (dataset.train.images, dataset.train.labels, dataset.test.images, dataset.test.labels)
        content = b"".join(part.numpy().tobytes() for part in parts)
        assert dataset.fingerprint == hashlib.sha256(content).hexdigest()[:16]


def test_statistics_of_an_independent_computation():
    dataset = load(SYNTHETIC)
    values = dataset.train.images.numpy() / 255
    np.testing.assert_allclose(dataset.mean, values.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(dataset.std, values.std((0, 2, 3)), rtol=1e-9)


def test_statistics_count_every_image(monkeypatch):
    from nfrepro.data import sources

    monkeypatch.setattr(sources, "STATISTICS_CHUNK", 10)  # 103 images: the last chunk is not full
    test_statistics_of_an_independent_computation()


def test_a_subset_is_fixed_and_part_of_a_larger_one(tiny):
    every = load(FashionMNISTOptions())
    pairs = list(zip(rows(every.train.images), every.train.labels.tolist(), strict=True))
    before: set = set()
    for count in range(1, 6):
        torch.manual_seed(count)  # the global generator has no say
        subset = load(FashionMNISTOptions(train_images=count))
        chosen = list(zip(rows(subset.train.images), subset.train.labels.tolist(), strict=True))
        assert len(set(chosen)) == count
        assert [pair for pair in pairs if pair in chosen] == chosen  # the original order
        assert before < set(chosen)
        before = set(chosen)
        assert torch.equal(subset.test.images, every.test.images)
        assert subset.mean == every.mean
    assert before == set(pairs)


def test_the_choice_is_random_and_never_changes(monkeypatch):
    from nfrepro.data import sources

    train, test = stream_seed("train-subset"), stream_seed("test-subset")
    chosen = sources._subset(1000, 100, "train", "x", train)
    assert chosen[:8].tolist() == GOLDEN_SUBSET
    assert 400 < chosen.mean() < 600
    assert sources._subset(1000, 100, "test", "x", test).tolist() != chosen.tolist()


@pytest.mark.parametrize(("split", "available"), [("train", 5), ("test", 3)])
def test_asking_for_more_than_there_are(tiny, split, available):
    load(FashionMNISTOptions(**{f"{split}_images": available}))
    with pytest.raises(InputError, match=f"{split}_images 1,234 is more than the {available} {split} images"):
        load(FashionMNISTOptions(**{f"{split}_images": 1234}))


def test_to_moves_every_tensor():
    dataset = load(SYNTHETIC).to("meta")
    for images in (dataset.train, dataset.test):
        assert images.images.device.type == images.labels.device.type == "meta"
    assert dataset.label == "synthetic"


def test_a_subset_by_seed_is_the_seeds_and_the_test_images_stay(tiny):
    """The fingerprint is that of all images: runs of several seeds are on the same data."""
    options = FashionMNISTOptions(train_images=2, train_subset="by_seed")
    drawn = [load(options, seed) for seed in range(8)]
    again = load(options, 3)
    assert torch.equal(drawn[3].train.images, again.train.images)
    assert len({found.train.images.numpy().tobytes() for found in drawn}) > 1
    assert all(torch.equal(found.test.images, again.test.images) for found in drawn)
    assert {found.fingerprint for found in drawn} == {load(FashionMNISTOptions()).fingerprint}
    fixed = FashionMNISTOptions(train_images=2)
    assert torch.equal(load(fixed, 0).train.images, load(fixed, 1).train.images)
    assert load(fixed).fingerprint != load(FashionMNISTOptions()).fingerprint
