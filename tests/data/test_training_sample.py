"""The training images on which a trained network is asked what it has learnt."""

from dataclasses import replace

import torch

from nfrepro.data.options import SyntheticOptions
from nfrepro.data.sources import Dataset, ImageSet, load, training_sample


def sorted_by_class() -> Dataset:
    dataset = load(SyntheticOptions(classes=4, train_images=200, test_images=20, pixels=8))
    assert isinstance(dataset.train, ImageSet)
    order = dataset.train.labels.argsort(stable=True)
    return replace(dataset, train=ImageSet(dataset.train.images[order], dataset.train.labels[order]))


def test_a_sample_has_all_classes_of_a_set_that_is_sorted_by_class() -> None:
    dataset = sorted_by_class()
    sample = training_sample(dataset, 40)
    assert len(sample.test) == 40
    assert set(sample.test.labels.tolist()) == {0, 1, 2, 3}
    assert sample.train is dataset.train
    assert torch.equal(training_sample(dataset, 40).test.labels, sample.test.labels)


def test_images_keep_their_labels_and_none_comes_twice() -> None:
    dataset = sorted_by_class()
    assert isinstance(dataset.train, ImageSet)
    whole = {image.numpy().tobytes(): int(label) for image, label in zip(*_parts(dataset.train), strict=True)}
    sample = training_sample(dataset, 150).test
    assert isinstance(sample, ImageSet)
    found = {image.numpy().tobytes(): int(label) for image, label in zip(*_parts(sample), strict=True)}
    assert len(found) == 150
    assert found.items() <= whole.items()


def test_a_small_set_is_taken_whole() -> None:
    dataset = sorted_by_class()
    sample = training_sample(dataset, 5000)
    assert torch.equal(sample.test.labels, dataset.train.labels)


def _parts(split: ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
    return split.images, split.labels
