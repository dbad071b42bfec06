"""Images of one's own: arrays or torch Datasets, as the loop gets those of any data set."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from nfrepro.data.options import DataOptions
from nfrepro.data.sizes import image_sizes
from nfrepro.data.sources import load, load_once
from nfrepro.errors import InputError
from nfrepro.tasks.options import LayerMomentsTask, ProbeTask
from tests.plugins.conftest import Write

ARRAYS = """\
import numpy as np
def load(count=6):
    images = np.arange(count * 3 * 4 * 4, dtype=np.uint8).reshape(count, 3, 4, 4)
    return images, np.arange(count) % 3, images[:2], np.array([2, 0])
"""
DATASETS = """\
import numpy as np
import torch
from PIL import Image
import own_arrays

class Some(torch.utils.data.Dataset):
    def __init__(self, images, labels, kind):
        self.pairs, self.kind = list(zip(images, labels)), kind
    def __len__(self):
        return len(self.pairs)
    def __getitem__(self, number):
        image, label = self.pairs[number]
        if self.kind == "pil":
            image = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        if self.kind == "tensor":
            image = torch.from_numpy(image)
        return image, torch.tensor(label)

def load(kind):
    a, b, c, d = own_arrays.load()
    return Some(a, b, kind), Some(c, d, kind)
"""


def options(name: str, **given: Any) -> Any:
    return TypeAdapter(DataOptions).validate_python({"name": name, **given})


def test_arrays_are_the_data_set(project: Write) -> None:
    project("own_arrays.py", ARRAYS)
    chosen = options("own_arrays:load", options={"count": 9}, train_images=5)
    dataset = load(chosen)
    expected = np.arange(9 * 48, dtype=np.uint8).reshape(9, 3, 4, 4)
    assert dataset.num_classes == 3
    assert len(dataset.train) == 5
    assert {bytes(image.numpy().tobytes()) for image in dataset.train.images} <= {image.tobytes() for image in expected}  # type: ignore[union-attr]
    assert torch.equal(dataset.test.images, torch.from_numpy(expected[:2]))  # type: ignore[union-attr]
    assert dataset.test.labels.tolist() == [2, 0]
    np.testing.assert_allclose(dataset.mean, expected.mean((0, 2, 3)) / 255)
    sizes = image_sizes(chosen)
    assert (sizes.channels, sizes.pixels, sizes.classes, sizes.train_images, sizes.test_images) == (3, 4, 3, 5, 2)


@pytest.mark.parametrize("kind", ["pil", "tensor", "array"])
def test_torch_datasets_are_the_same_images(project: Write, kind: str) -> None:
    project("own_arrays.py", ARRAYS)
    project("own_datasets.py", DATASETS)
    one, other = load(options("own_arrays:load")), load(options("own_datasets:load", options={"kind": kind}))
    assert other.fingerprint == one.fingerprint


def test_changed_code_gives_changed_images(project: Write) -> None:
    project("own_arrays.py", ARRAYS)
    before = load_once(options("own_arrays:load"))
    assert load_once(options("own_arrays:load")) is before
    project("own_arrays.py", ARRAYS.replace("np.array([2, 0])", "np.array([1, 1])"))
    assert load_once(options("own_arrays:load")).test.labels.tolist() == [1, 1]
    assert before.test.labels.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("3", "has to return"),
        ("(images / 255.0, labels, images, labels)", "train images are float64: they have to be uint8"),
        ("(images, labels, images[:, :, :3], labels)", r"test images are \[6, 3, 3, 4\]: they have to be square"),
        ("(images, labels[:3], images, labels)", "train labels are int64"),
        ("(images, labels - 1, images, labels)", "number the classes from 0"),
        ("(images, labels, images[:, :1], labels)", "differ in shape"),
        ("(images[:0], labels[:0], images, labels)", "train images: there are none"),
        ("(images, labels)", "is not a Dataset of"),
    ],
)
def test_what_is_no_data_set_is_one_line(project: Write, returned: str, says: str) -> None:
    lines = ARRAYS.replace("return images, np.arange(count) % 3, images[:2], np.array([2, 0])", "labels = np.arange(6)")
    project("own_bad.py", lines + f"    return {returned}\n")
    with pytest.raises(InputError, match=says):
        load(options("own_bad:load"))


def test_images_without_channels_are_grey(project: Write) -> None:
    project("own_grey.py", ARRAYS.replace("return images,", "images = images[:, 0]\n    return images,"))
    assert load(options("own_grey:load")).channels == 1


def test_names_of_runs_hold_no_colon(project: Write) -> None:
    """They are names of folders, and rows of tables are found by them."""
    project("own_arrays.py", ARRAYS)
    project("own_acts.py", "def twice(x):\n    return 2 * x\n")
    model = {"name": "nf_resnet", "blocks": [1], "width": 0.0625, "stem": "small"}
    probe = ProbeTask.model_validate({"model": model, "data": {"name": "own_arrays:load"}, "pixels": 4, "batch": 2})
    layer = LayerMomentsTask.model_validate({"activation": "own_acts:twice"})
    for found in (probe.label(), layer.label()):
        assert re.fullmatch(r"\w[\w.-]*", found), found
    assert "own_arrays.load" in probe.label()
    assert "own_acts.twice" in layer.label()
