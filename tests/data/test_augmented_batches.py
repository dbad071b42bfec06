"""Batches with all of the augmentation: parts of them, resumed epochs and copies are what the whole is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nfrepro.data.augmentation import draw_epoch
from nfrepro.data.batches import train_batches
from nfrepro.data.loader_rate import loader_rate
from nfrepro.data.options import ImageFolderOptions, SyntheticOptions
from nfrepro.data.sources import Dataset, load
from nfrepro.errors import InputError
from nfrepro.tasks.options import TrainTask

PLAIN = SyntheticOptions(classes=3, channels=3, pixels=12, train_images=80, test_images=4, crop_padding=2)
DATASET = load(PLAIN)
STRONG = {"crop": "inception", "randaugment_layers": 2, "mixing": "mixup_cutmix"}
Batch = tuple[Tensor, Tensor]


def taken(
    options: SyntheticOptions, batch_size: int = 24, dataset: Dataset = DATASET, **arguments: object
) -> list[Batch]:
    return list(train_batches(dataset, options, batch_size, 1, 2, **arguments))  # type: ignore[arg-type]


def equal(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a, b) for left, right in zip(one, two, strict=True) for a, b in zip(left, right, strict=True)
    )


@settings(max_examples=25)
@given(
    mixing=st.sampled_from(["none", "mixup", "cutmix", "mixup_cutmix"]),
    crop=st.sampled_from(["padded", "inception"]),
    layers=st.integers(0, 2),
    copies=st.sampled_from([1, 2, 3]),
    ends=st.tuples(st.integers(0, 24), st.integers(0, 24)).filter(lambda ends: ends[0] != ends[1]),
    first_step=st.integers(0, 3),
)
def test_rows_and_resumed_epochs_are_parts_of_the_whole(mixing, crop, layers, copies, ends, first_step) -> None:
    changes = {"mixing": mixing, "crop": crop, "randaugment_layers": layers, "copies": copies}
    options = PLAIN.model_copy(update=changes)
    rows = range(min(ends), max(ends))
    expected = [(x[rows.start : rows.stop], y[rows.start : rows.stop]) for x, y in taken(options)[first_step:]]
    assert equal(taken(options, first_step=first_step, rows=rows), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_layout_and_targets(channels: int) -> None:
    options = PLAIN.model_copy(update={"channels": channels, **STRONG})
    torch.manual_seed(3)
    state = torch.get_rng_state()
    batches = taken(options, dataset=load(options))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(batches) == 3
    for x, targets in batches:
        assert x.shape == (24, channels, 12, 12)
        assert x.dtype == targets.dtype == torch.float32
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert targets.shape == (24, 3)
        torch.testing.assert_close(targets.sum(1), torch.ones(24))


def test_new_options_leave_the_draws_of_old_ones() -> None:
    plain = draw_epoch(80, PLAIN, 1, 2)
    strong = draw_epoch(80, PLAIN.model_copy(update=STRONG), 1, 2)
    for name in ("images", "flips", "corners"):
        assert np.array_equal(getattr(plain, name), getattr(strong, name))
    unmixed, mixed = (taken(PLAIN.model_copy(update={"mixing": mixing})) for mixing in ("none", "cutmix"))
    for (x, _), (found, targets) in zip(unmixed, mixed, strict=True):
        untouched = targets.max(1).values == 1
        kept = (x == found).all(1)
        assert kept.float().mean() > 0.3
        assert (kept.flatten(1).all(1) <= untouched).all()  # an image as it was keeps its whole target


def test_copies_are_the_same_image_changed_in_different_ways() -> None:
    dark = Dataset(
        train=load(SyntheticOptions(channels=1, pixels=8, train_images=40)).train,
        test=DATASET.test,
        classes=("a", "b"),
        mean=(0.0,),
        std=(1 / 255,),
        label="",
        fingerprint="",
    )
    dark.train.images[:] = torch.arange(40, dtype=torch.uint8)[:, None, None, None] + 100  # each image one grey level
    options = SyntheticOptions(copies=4, crop_padding=3)
    batches = taken(options, batch_size=8, dataset=dark)
    assert len(batches) == 5  # as without copies
    values = torch.cat([x.amax((1, 2, 3)) for x, _ in batches]).round()
    order = draw_epoch(40, SyntheticOptions(), 1, 2).images
    assert values.tolist() == [float(order[row // 4] + 100) for row in range(40)]  # the first 10 of the order
    framed = torch.cat([x for x, _ in batches]).view(10, 4, -1)
    assert any(not torch.equal(copies[0], copies[1]) for copies in framed)
    one = torch.cat([x for x, _ in taken(options.model_copy(update={"copies": 1}), batch_size=8, dataset=dark)])
    assert torch.equal(framed[:, 0], one.view(40, -1)[:10])  # the first copy is the image as it was without copies


def test_copies_are_mixed_with_another_image() -> None:
    options = PLAIN.model_copy(update={"copies": 2, "mixing": "mixup"})
    order = draw_epoch(80, PLAIN, 1, 2).images
    for step, (_, targets) in enumerate(taken(options, batch_size=8)):
        for row in range(8):
            image = step * 4 + row // 2
            labels = {int(DATASET.train.labels[order[place]]) for place in (image, image ^ 1)}
            assert set(targets[row].nonzero().flatten().tolist()) <= labels


@pytest.mark.parametrize(
    ("update", "batch_size", "rows", "message"),
    [
        ({"mixing": "mixup"}, 9, None, "batch size 9 is not a multiple of 2"),
        ({"mixing": "mixup_cutmix"}, 18, None, "batch size 18 is not a multiple of 4"),
        ({"mixing": "mixup_cutmix", "copies": 3}, 16, None, "batch size 16 is not a multiple of 12"),
        ({"copies": 3}, 16, None, "batch size 16 is not a multiple of 3"),
        ({}, 8, range(0, 9), "are not consecutive rows of a batch of 8"),
        ({}, 8, range(4, 4), "are not consecutive rows of a batch of 8"),
        ({}, 8, range(0, 8, 2), "are not consecutive rows of a batch of 8"),
    ],
)
def test_refused_before_the_first_batch(update, batch_size, rows, message) -> None:
    with pytest.raises(InputError, match=message):
        train_batches(DATASET, PLAIN.model_copy(update=update), batch_size, 0, 0, rows=rows)


def test_a_run_whose_batches_do_not_divide_is_refused_as_it_is_read() -> None:
    model = {"name": "nf_resnet", "blocks": [1]}
    config = {"data": {"name": "synthetic", "mixing": "mixup_cutmix"}, "model": model, "train": {"batch_size": 18}}
    with pytest.raises(ValueError, match=r"train\.batch_size: 18 is not a multiple of 4"):
        TrainTask.model_validate(config)
    config["data"]["mixing"] = "mixup"
    TrainTask.model_validate(config)


def test_channels_that_randaugment_is_not_made_for() -> None:
    with pytest.raises(ValueError, match="not 2 channels"):
        SyntheticOptions(channels=2, randaugment_layers=1)
    SyntheticOptions(channels=2, crop="inception", mixing="mixup_cutmix")


def test_the_loader_alone() -> None:
    assert loader_rate(DATASET, PLAIN.model_copy(update=STRONG), 24, seconds=0.01, workers=0) > 0


def test_test_images_of_another_size(tmp_path, monkeypatch) -> None:
    from PIL import Image

    monkeypatch.setenv("NFREPRO_DATA", str(tmp_path))
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "mine" / split / name).mkdir(parents=True)
            pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "mine" / split / name / "x.png")
    dataset = load(ImageFolderOptions(folder="mine", pixels=16, test_pixels=24))
    same = load(ImageFolderOptions(folder="mine", pixels=16))
    large = load(ImageFolderOptions(folder="mine", pixels=24))
    assert (dataset.pixels, dataset.test.pixels) == (16, 24)
    assert torch.equal(dataset.train.images, same.train.images)
    assert torch.equal(dataset.test.images, large.test.images)
    assert (dataset.mean, dataset.std) == (same.mean, same.std)
    from nfrepro.data.batches import test_batches as batches

    ((x, _),) = batches(dataset, 2)
    mean, std = (torch.tensor(values)[:, None, None] for values in (dataset.mean, dataset.std))
    assert torch.equal(x, (dataset.test.images.float() / 255 - mean) / std)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_device_changes_no_draw() -> None:
    options = PLAIN.model_copy(update=STRONG | {"randaugment_layers": 0})
    for (x, y), (device_x, device_y) in zip(taken(options), taken(options, dataset=DATASET.to("cuda")), strict=True):
        torch.testing.assert_close(device_x.cpu(), x, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(device_y.cpu(), y, rtol=1e-6, atol=1e-6)
