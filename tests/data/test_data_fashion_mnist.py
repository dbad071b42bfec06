from pathlib import Path

import numpy as np
import pytest
import torch

from nfrepro.data.location import locate
from nfrepro.data.options import FashionMNISTOptions
from nfrepro.data.sources import Dataset, load
from nfrepro.errors import InputError

OPTIONS = FashionMNISTOptions()


@pytest.fixture(scope="module")
def real() -> Dataset:
    """The data set itself, found on this machine or fetched into the project's data folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(__file__).parents[2])
        try:
            locate(OPTIONS)
        except InputError as error:
            if "could not be fetched" in str(error):
                pytest.skip(str(error))
            raise
        return load(OPTIONS)


def test_shapes_and_classes(real):
    assert real.train.images.shape == (60_000, 1, 28, 28)
    assert real.test.images.shape == (10_000, 1, 28, 28)
    assert real.train.images.dtype == real.test.images.dtype == torch.uint8
    assert real.train.labels.dtype == real.test.labels.dtype == torch.int64
    assert torch.bincount(real.train.labels).tolist() == [6000] * 10
    assert torch.bincount(real.test.labels).tolist() == [1000] * 10
    assert (real.num_classes, real.channels, real.pixels, real.label) == (10, 1, 28, "Fashion-MNIST")
    assert real.train.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]  # as published


def test_statistics(real):
    values = real.train.images.double() / 255
    assert real.mean == pytest.approx([values.mean().item()], abs=1e-9)
    assert real.std == pytest.approx([values.std(correction=0).item()], abs=1e-9)
    assert [round(real.mean[0], 4), round(real.std[0], 4)] == [0.2860, 0.3530]


def test_the_fingerprint_is_known(real):
    assert real.fingerprint == "ece172613115fb18"


@pytest.mark.parametrize("compressed", [True, False])
def test_reads_what_is_in_the_files(bare_machine, put_tiny, tiny_arrays, compressed):
    put_tiny(Path("data"), compressed)
    dataset = load(OPTIONS)
    for images, prefix in ((dataset.train, "train"), (dataset.test, "t10k")):
        np.testing.assert_array_equal(images.images[:, 0].numpy(), tiny_arrays[f"{prefix}-images-idx3-ubyte"])
        np.testing.assert_array_equal(images.labels.numpy(), tiny_arrays[f"{prefix}-labels-idx1-ubyte"])


def test_load_checks_too_and_does_not_fetch(bare_machine, put_tiny):
    with pytest.raises(InputError, match="not found"):
        load(OPTIONS)
    assert not Path("data").exists()
    path = put_tiny(Path("data")) / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte\.gz: truncated or altered"):
        load(OPTIONS)
