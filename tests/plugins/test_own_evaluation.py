"""Stored weights of a network from elsewhere, evaluated on a folder of images."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nfrepro.models import create
from tests.in_this_process import nfrepro_here


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes of one image each: black and white."""
    for name, value in (("a", 0), ("b", 255)):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.fromarray(np.full((40, 40, 3), value, np.uint8)).save(tmp_path / "images" / name / "one.png")
    return tmp_path / "images"


def test_its_accuracy_is_that_of_the_weights(tmp_path: Path, images: Path) -> None:
    model = create("torchvision:squeezenet1_1", num_classes=2)
    state = model.state_dict()
    for value in state.values():
        value.zero_()
    state["classifier.1.bias"] += torch.tensor([0.0, 1.0])  # says b, whatever it sees
    torch.save(state, tmp_path / "weights.pt")
    call = ("evaluate", "--weights", str(tmp_path / "weights.pt"), "--data", str(images), "--pixels", "32", "--json")
    ended = nfrepro_here(*call, "--model", "torchvision:squeezenet1_1")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["top1"]["percent"], found["images"], found["classes"]) == (50.0, 2, 2)
    assert found["loss"] == pytest.approx(np.log(1 + np.exp([-1.0, 1.0])).mean(), rel=1e-5)

    other = nfrepro_here(*call, "--model", "torchvision:resnet18")
    assert other.returncode == 2
    assert "does not fit torchvision:resnet18 with 2 classes: conv1.weight: missing" in other.stderr
    assert other.stderr.count("\n") == 1
