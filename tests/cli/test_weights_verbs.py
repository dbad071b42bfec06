"""`nfrepro convert` and `nfrepro evaluate`, called as users call them."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from scipy import stats
from torch import nn
from torchvision.transforms import functional

from nfrepro import cli
from nfrepro.cli.progress import Counter
from nfrepro.models import create

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "tests" / "reference" / "nf_resnet50_relu.npz"
CLASSES = ("n01", "n02", "n03", "n04", "n05", "n06", "n07")
PIXELS = 32
TINY = ("--model", "nf_resnet26", "--set", "model.width=0.125")


def nfrepro(*arguments: object) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "nfrepro", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def tiny_network() -> nn.Module:
    torch.manual_seed(1)
    model = create("nf_resnet26", width=0.125, num_classes=len(CLASSES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`own.pt`, a state dict of ours, and `images/val/<class>/`, 3 to 9 images a class in shapes without rounding."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(tiny_network().state_dict(), folder / "own.pt")
    rng = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (folder / "images" / "val" / name).mkdir(parents=True)
        for index in range(3 + number):
            # Wide or high; its central square of 16 pixels lies at a whole pixel.
            size = (32, 32 + 2 * index, 3) if index % 2 else (32 + 2 * index, 32, 3)
            image = Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8))
            image.save(folder / "images" / "val" / name / f"{index}.png")
    return folder


def reference(folder: Path) -> dict[str, float]:
    """Loss, top-1 and top-5 one image at a time, with torchvision's bicubic (which is ours when it enlarges)."""
    model = tiny_network()
    hits, loss, count = np.zeros(2), 0.0, 0
    for label, name in enumerate(CLASSES):
        for path in (folder / "images" / "val" / name).iterdir():
            image = functional.pil_to_tensor(Image.open(path)).float()
            square = functional.center_crop(image, [16, 16])
            x = functional.resize(square, [PIXELS, PIXELS], functional.InterpolationMode.BICUBIC, antialias=True)
            x = functional.normalize(x / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
            with torch.no_grad():
                logits = model(x[None])[0].double()
            order = logits.argsort(descending=True).tolist()
            hits += (order[0] == label, label in order[:5])
            loss += math.log(sum(math.exp(logit - logits[label].item()) for logit in logits.tolist()))
            count += 1
    return {"images": count, "top1": 100 * hits[0] / count, "top5": 100 * hits[1] / count, "loss": loss / count}


def check_report(report: dict[str, Any], expected: dict[str, float]) -> None:
    assert report["images"] == expected["images"] == sum(range(3, 10))
    assert report["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    for key in ("top1", "top5"):
        assert report[key]["percent"] == pytest.approx(expected[key])
        hits = round(expected[key] * expected["images"] / 100)
        interval = stats.binomtest(hits, int(expected["images"])).proportion_ci(0.95, "wilson")
        assert (report[key]["low"], report[key]["high"]) == pytest.approx((100 * interval.low, 100 * interval.high))
    assert report["interval"] == "95 % Wilson score interval over images"


def test_convert_then_evaluate_equals_a_loop_by_hand(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    called = nfrepro("convert", folder / "own.pt", out, *TINY)
    assert (called.returncode, called.stderr) == (0, "")
    assert called.stdout.startswith(f"{out}: nf_resnet26, 7 classes, ")
    for name, tensor in torch.load(folder / "own.pt", weights_only=True).items():
        assert torch.equal(safetensors.torch.load_file(out)[name], tensor)
    settings = ("--data", folder / "images", "--pixels", PIXELS, "--batch", 5, "--device", "cpu")
    called = nfrepro("evaluate", "--weights", out, *settings, "--json")
    assert (called.returncode, called.stderr) == (0, "")
    report, expected = json.loads(called.stdout), reference(folder)
    assert 0 < expected["top5"] < 100  # so that it can be wrong
    check_report(report, expected)
    assert (report["model"], report["classes"], report["pixels"]) == ("nf_resnet26", 7, PIXELS)
    assert report["options"]["width"] == 0.125
    assert (report["precision"], report["device"]) == ("float32", "cpu")
    assert report["crop"] == "central crop, padding 32 px, bicubic (the authors')"
    in_words = nfrepro("evaluate", "--weights", folder / "own.pt", *TINY, *settings[:-4]).stdout
    assert f"{expected['top1']:.2f} %  [" in in_words
    assert "95 % Wilson score interval" in in_words
    assert "\x1b" not in in_words


def test_crop_precision_and_split_are_as_asked(folder: Path) -> None:
    called = nfrepro(
        *("evaluate", "--weights", folder / "own.pt", *TINY, "--data", folder / "images" / "val", "--json"),
        *("--pixels", PIXELS, "--crop", 0.875, "--precision", "bfloat16", "--device", "cpu"),
    )
    assert called.returncode == 0, called.stderr
    report = json.loads(called.stdout)
    assert report["crop"] == "central crop, fraction 0.875, bicubic, antialiased (timm's)"
    assert (report["precision"], report["images"]) == ("bfloat16", 42)


def test_the_authors_tree_is_converted(tmp_path: Path) -> None:
    out = tmp_path / "out.pt"
    called = nfrepro("convert", REFERENCE, out, "--model", "nf_resnet50", "--set", "model.width=0.25")
    assert (called.returncode, called.stderr) == (0, "")
    assert "nf_resnet50, 10 classes, 1,486,122 parameters, from authors names" in called.stdout
    before = out.read_bytes()
    called = nfrepro("convert", REFERENCE, out, "--model", "nf_resnet50", "--set", "model.width=0.25")
    assert (called.returncode, out.read_bytes()) == (2, before)
    assert "already exists: choose another name, or replace it with --force" in called.stderr
    called = nfrepro("convert", REFERENCE, out, "--model", "nf_resnet50", "--set", "model.width=0.25", "--force")
    assert called.returncode == 0


CONVERT = ("convert", "{folder}/own.pt", "{out}")
EVALUATE = ("evaluate", "--weights", "{folder}/own.pt", *TINY, "--data")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("convert", "{folder}/none.pt", "{out}", *TINY), "none.pt: no such file"),
        ((*CONVERT,), "give --model NAME"),
        ((*CONVERT, "--model", "nf_resnett26"), "unknown model 'nf_resnett26', did you mean nf_resnet?"),
        ((*CONVERT, "--model", "nf_resnet26", "--set", "width=1"), "--set width=1: expected model.OPTION=VALUE"),
        ((*CONVERT, "--model", "nf_resnet26", "--set", "model.alhpa=1"), "'alhpa', did you mean alpha?"),
        ((*CONVERT, "--model", "nf_resnet26"), "does not fit the network: stages.0.0.conv0.weight: shape"),
        (("convert", "{folder}/own.pt", "{out}.npz", *TINY), "unknown type '.npz'"),
        ((*EVALUATE, "{folder}/nowhere"), "nowhere: no such folder"),
        ((*EVALUATE, "{folder}"), "images: no images"),
        ((*EVALUATE, "{folder}/images", "--crop", "0"), "--crop 0: neither a fraction"),
        ((*EVALUATE, "{folder}/images", "--crop", "1.5"), "--crop 1.5: neither a fraction"),
        ((*EVALUATE, "{folder}/images", "--device", "gpu"), "--device gpu: unknown"),
        ((*EVALUATE, "{folder}/images", "--device", "cuda:99"), "--device cuda:99: not on this machine"),
        (
            (*EVALUATE, "{folder}/images", "--precision", "bfloat"),
            "--precision bfloat: unknown, did you mean bfloat16?",
        ),
        ((*EVALUATE, "{folder}/images", "--pixels", "0"), "--pixels"),
        ((*EVALUATE, "{folder}/images", "--pixels", "4"), "too small for total strides of 32"),
    ],
)
def test_a_bad_call_is_one_line_and_exit_2(
    folder: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = [part.format(folder=folder, out=tmp_path / "out.pt") for part in arguments]
    monkeypatch.setattr(sys, "argv", ["nfrepro", *line])
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)  # this process keeps its own
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    printed = capsys.readouterr()
    assert (stopped.value.code, printed.out) == (2, "")
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_images_that_will_not_do_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in CLASSES[:-1]:
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / name / "a.png")
    called = nfrepro("evaluate", "--weights", folder / "own.pt", *TINY, "--data", tmp_path, "--pixels", PIXELS)
    assert (called.returncode, called.stdout) == (2, "")
    assert "6 class folders (n01, …), but" in called.stderr
    assert "distinguishes 7 classes" in called.stderr
    (tmp_path / CLASSES[-1]).mkdir()
    (tmp_path / CLASSES[-1] / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    called = nfrepro("evaluate", "--weights", folder / "own.pt", *TINY, "--data", tmp_path, "--pixels", PIXELS)
    assert (called.returncode, called.stdout) == (2, "")
    assert "broken.jpg: not a readable image" in called.stderr
    assert len(called.stderr.splitlines()) == 1


def test_progress_without_a_terminal_is_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Counter, "SECONDS", 0.0)
    with Counter(2000, "images") as counter:
        counter.advance(1500)
        counter.advance(500)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "1,500/2,000 images  0:00 left\n"
