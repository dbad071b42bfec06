from collections import Counter

import numpy as np
import pytest
import torch

from nfrepro.data import batches
from nfrepro.data.augmentation import draw_epoch, epoch_order
from nfrepro.data.options import SyntheticOptions
from nfrepro.data.sources import Dataset, load
from nfrepro.errors import InputError
from nfrepro.seeding import stream_seed

OPTIONS = SyntheticOptions(classes=3, channels=3, pixels=9, train_images=50, test_images=11, crop_padding=2)

# What these streams gave when they were first drawn; results already published depend on them.
GOLDEN_ORDER = [[9, 8, 2, 0, 6, 1, 4, 7, 3, 5], [6, 5, 2, 9, 0, 8, 4, 3, 7, 1], [8, 9, 3, 4, 6, 0, 5, 7, 1, 2]]
GOLDEN_FLIPS = [1, 1, 0, 0, 0, 0]
GOLDEN_CORNERS = [[0, 6], [5, 8], [2, 3], [6, 6], [6, 6], [4, 7]]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load(OPTIONS)


def taken(dataset, options=OPTIONS, batch_size=8, seed=0, epoch=0, first_step=0):
    return list(batches.train_batches(dataset, options, batch_size, seed, epoch, first_step))


def slow_image(image: np.ndarray, padding: int, flip: bool, top: int, left: int) -> np.ndarray:
    """Pads, cuts and flips one image [C, H, W], pixel by pixel."""
    height, width = image.shape[1:]
    result = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            source_row = row + top - padding
            source_column = (width - 1 - column if flip else column) + left - padding
            if 0 <= source_row < height and 0 <= source_column < width:
                result[:, row, column] = image[:, source_row, source_column]
    return result


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("padding", "flip"), [(2, True), (2, False), (0, True), (0, False), (12, True)])
def test_equals_a_slow_reference(channels, padding, flip):
    options = OPTIONS.model_copy(update={"channels": channels, "crop_padding": padding, "flip": flip})
    dataset = load(options)
    generator = torch.Generator().manual_seed(stream_seed("augmentation", 5, 3))
    flips = torch.randint(2, (50,), generator=generator).tolist()
    corners = torch.randint(2 * padding + 1, (50, 2), generator=generator).tolist()
    order = torch.randperm(50, generator=torch.Generator().manual_seed(stream_seed("order", 5, 3))).tolist()
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (dataset.mean, dataset.std))

    position = 0
    for images, labels in taken(dataset, options, batch_size=7, seed=5, epoch=3):
        assert images.shape == (7, channels, 9, 9)
        for image, label in zip(images.numpy(), labels.tolist(), strict=True):
            source = dataset.train.images[order[position]].numpy()
            expected = slow_image(source, padding, flip and bool(flips[position]), *corners[position])
            np.testing.assert_array_equal(image, (expected.astype(np.float32) / 255 - mean) / std)
            assert label == dataset.train.labels[order[position]]
            position += 1
    assert position == 49


def test_batches_are_float32_channels_last(dataset):
    for images, labels in [*taken(dataset), *batches.test_batches(dataset, 4)]:
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert labels.dtype == torch.int64


def test_normalised_as_torchvision_does(dataset):
    from torchvision.transforms import Normalize

    plain = OPTIONS.model_copy(update={"crop_padding": 0, "flip": False})
    ((images, _),) = taken(dataset, plain, batch_size=50)
    expected = Normalize(dataset.mean, dataset.std)(dataset.train.images.float() / 255)
    assert torch.equal(images, expected[epoch_order(50, 0, 0)])
    assert images.mean((0, 2, 3)).abs().max() < 1e-5
    assert (images.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5


def test_the_data_set_is_left_as_it_was(dataset):
    before = dataset.train.images.clone(), dataset.test.images.clone()
    taken(dataset)
    list(batches.test_batches(dataset, 4))
    assert torch.equal(dataset.train.images, before[0])
    assert torch.equal(dataset.test.images, before[1])


@pytest.mark.parametrize("first_step", range(7))
def test_resuming_in_the_middle_gives_the_tail(dataset, first_step):
    whole, tail = taken(dataset), taken(dataset, first_step=first_step)
    assert len(whole) == 6
    assert len(tail) == 6 - first_step
    for (images, labels), (tail_images, tail_labels) in zip(whole[first_step:], tail, strict=True):
        assert torch.equal(images, tail_images)
        assert torch.equal(labels, tail_labels)


@pytest.mark.parametrize("first_step", [-1, 7])
def test_a_step_that_does_not_exist(dataset, first_step):
    with pytest.raises(InputError, match="is not one of the 6 steps"):
        batches.train_batches(dataset, OPTIONS, 8, 0, 0, first_step)


def test_batches_depend_on_seed_and_epoch_alone(dataset):
    reference = taken(dataset, seed=1, epoch=2)
    torch.manual_seed(99)  # the global generator has no say, and is left as it was
    state = torch.get_rng_state()
    again = taken(dataset, seed=1, epoch=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(
        torch.equal(a, b) for one, two in zip(reference, again, strict=True) for a, b in zip(one, two, strict=True)
    )
    for other in (taken(dataset, seed=2, epoch=2), taken(dataset, seed=1, epoch=3), taken(dataset, seed=2, epoch=1)):
        assert not any(torch.equal(a[0], b[0]) for a, b in zip(reference, other, strict=True))


def test_epoch_order_never_changes():
    assert epoch_order(10, 0, 0).tolist() == GOLDEN_ORDER[0]
    assert epoch_order(10, 0, 1).tolist() == GOLDEN_ORDER[1]
    assert epoch_order(10, 1, 0).tolist() == GOLDEN_ORDER[2]


def test_the_draws_never_change():
    draws = draw_epoch(6, SyntheticOptions(), 0, 0)
    assert draws.flips.astype(int).tolist() == GOLDEN_FLIPS
    assert draws.corners.tolist() == GOLDEN_CORNERS


def test_epoch_order_visits_each_image_once():
    order = epoch_order(1000, 3, 4)
    assert sorted(order.tolist()) == list(range(1000))
    assert order.tolist() != list(range(1000))


def test_the_draws_are_uniform():
    draws = draw_epoch(81_000, SyntheticOptions(crop_padding=4), 0, 0)
    counts = Counter(map(tuple, draws.corners.tolist()))
    assert set(counts) == {(top, left) for top in range(9) for left in range(9)}
    assert all(800 < count < 1200 for count in counts.values())
    assert 0.49 < draws.flips.mean() < 0.51
    assert abs(np.corrcoef(draws.flips, draws.corners[:, 0])[0, 1]) < 0.02


def test_turning_one_change_off_leaves_the_other():
    both = draw_epoch(100, OPTIONS, 0, 0)
    no_flip = draw_epoch(100, OPTIONS.model_copy(update={"flip": False}), 0, 0)
    no_crop = draw_epoch(100, OPTIONS.model_copy(update={"crop_padding": 0}), 0, 0)
    assert np.array_equal(both.corners, no_flip.corners)
    assert not no_flip.flips.any()
    assert np.array_equal(both.flips, no_crop.flips)
    assert not no_crop.corners.any()


def test_padding_is_black(dataset):
    far = OPTIONS.model_copy(update={"crop_padding": 9, "flip": False})
    corners = draw_epoch(50, far, 0, 0).corners
    outside = [position for position, (top, left) in enumerate(corners.tolist()) if {top, left} & {0, 18}]
    assert outside
    ((images, _),) = taken(dataset, far, batch_size=50)
    expected = -torch.tensor(dataset.mean) / torch.tensor(dataset.std)
    for position in outside:
        assert torch.equal(images[position], expected[:, None, None].expand(3, 9, 9))


@pytest.mark.parametrize(("count", "batch_size", "steps"), [(50, 8, 6), (48, 8, 6), (8, 8, 1), (60_000, 128, 468)])
def test_steps_per_epoch(count, batch_size, steps):
    assert batches.steps_per_epoch(count, batch_size) == steps


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_nothing(dataset, batch_size):
    for action in (
        lambda: batches.steps_per_epoch(50, batch_size),
        lambda: batches.train_batches(dataset, OPTIONS, batch_size, 0, 0),
        lambda: batches.test_batches(dataset, batch_size),
    ):
        with pytest.raises(InputError, match=f"batch size {batch_size} is less than 1"):
            action()


def test_a_batch_larger_than_the_train_split(dataset):
    with pytest.raises(InputError, match="batch size 51 is more than the 50 train images"):
        batches.train_batches(dataset, OPTIONS, 51, 0, 0)


@pytest.mark.parametrize("batch_size", [1, 4, 11, 100])
def test_test_batches_are_the_test_split_in_order(dataset, batch_size):
    taken = list(batches.test_batches(dataset, batch_size))
    assert [len(labels) for _, labels in taken] == [min(batch_size, 11 - start) for start in range(0, 11, batch_size)]
    images, labels = torch.cat([images for images, _ in taken]), torch.cat([labels for _, labels in taken])
    assert torch.equal(labels, dataset.test.labels)
    mean, std = (torch.tensor(values)[:, None, None] for values in (dataset.mean, dataset.std))
    assert torch.equal(images, (dataset.test.images.float() / 255 - mean) / std)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_device_changes_no_batch(dataset):
    for (images, labels), (device_images, device_labels) in zip(taken(dataset), taken(dataset.to("cuda")), strict=True):
        assert device_images.is_cuda
        assert device_labels.is_cuda
        assert device_images.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(device_images.cpu(), images, rtol=1e-6, atol=1e-6)
        assert torch.equal(device_labels.cpu(), labels)
