"""The verbs `gain` and `spp`, called as users and programs call them."""

import json
import math
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from tiny_experiment import Call

from nfrepro import cli

COLUMNS = ["network", "seed", "block", "stage", "transition", "statistic", "measured", "predicted"]
SMALL = ["--pixels", "32", "--batch", "2", "--seeds", "2"]


class Here:
    """The command line in this process, which saves the seconds that another takes to import torch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys
        monkeypatch.setattr(signal, "signal", lambda number, handler: None)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["nfrepro", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = self.capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Here:
    monkeypatch.chdir(tmp_path)
    return Here(monkeypatch, capsys)


def is_one_line(called: tuple[int, str, str]) -> None:
    code, out, err = called
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert err.startswith("nfrepro: ")


def test_gain_as_a_table(nfrepro: Call) -> None:
    called = nfrepro("gain", "relu", "glu", "lambda x: 2 * x")
    assert called.returncode == 0, called.stderr
    head, relu, glu, own = called.stdout.splitlines()
    assert head.split() == ["activation", "gamma", "mean", "variance", "published", "off", "by"]
    variance = (1 - 1 / math.pi) / 2
    numbers = [float(word) for word in relu.split()[1:5]]
    assert numbers == pytest.approx([variance**-0.5, (2 * math.pi) ** -0.5, variance, 1.7139588594436646], abs=1e-9)
    assert relu.split()[0] == "relu"
    assert relu.split()[5:] == [f"{100 * (1.7139588594436646 * variance**0.5 - 1):+.3f}", "%"]
    assert glu.split()[0] == "glu"
    assert glu.split()[2:4] == ["-", "-"]  # a function of two numbers
    assert own.startswith("lambda x: 2 * x ")
    assert [float(word) for word in own.removeprefix("lambda x: 2 * x").split()[:3]] == pytest.approx([0.5, 0, 4])
    # A table: the numbers of a column end in one place.
    assert len({line.index(end) + len(end) for line, end in ((relu, relu.split()[1]), (glu, glu.split()[1]))}) == 1


def test_gain_for_programs(here: Here) -> None:
    code, out, _ = here("gain", "identity", "math:sqrt", "glu", "--json")
    assert code == 1  # math.sqrt takes no tensor
    identity, root, glu = json.loads(out)
    assert set(identity) == {"name", "gamma", "mean", "variance", "published", "problem"}
    assert identity == {"name": "identity", "gamma": pytest.approx(1), "mean": pytest.approx(0, abs=1e-12)} | {
        "variance": pytest.approx(1),
        "published": 1.0,
        "problem": None,
    }
    assert (root["gamma"], root["published"]) == (None, None)
    assert root["problem"].startswith("has no usable gain: it fails on")
    assert (glu["mean"], glu["variance"]) == (None, None)
    assert glu["gamma"] > 1.8


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("lambda x: 0 * x + 3", "mean 3, variance"),
        ("lambda x: torch.log(x)", "not finite"),
        ("lambda x: torch.exp(x ** 2)", "tails"),
        ("lambda x: x[:1]", "become"),
        ("lambda x: x - x.mean()", "not elementwise"),
    ],
)
def test_a_function_without_gain_is_a_line_of_the_table_and_exit_1(here: Here, function: str, reason: str) -> None:
    code, out, err = here("gain", "tanh", function)
    assert code == 1
    assert err == ""
    _, tanh, line = out.splitlines()
    assert "1.5925" in tanh
    assert line.startswith(function)
    assert reason in line


def test_unknown_names_are_one_line_and_exit_2(nfrepro: Call) -> None:
    called = nfrepro("gain", "relu", "rellu")
    assert called.returncode == 2
    assert called.stdout == ""
    assert len(called.stderr.splitlines()) == 1
    assert "unknown activation 'rellu', did you mean relu?" in called.stderr


@pytest.mark.parametrize("arguments", [["lambda x: x["], ["no.module:f"], ["torch.nn:no_such"], []])
def test_bad_calls_of_gain(here: Here, arguments: list[str]) -> None:
    is_one_line(here("gain", *arguments))


@pytest.mark.slow
def test_spp_of_ours_and_of_torchvisions(nfrepro: Call, tmp_path: Path) -> None:
    out = tmp_path / "both"
    called = nfrepro("spp", "nf_resnet26", "torchvision:resnet18", *SMALL, "--out", str(out))
    assert called.returncode == 0, called.stderr
    assert called.stdout.splitlines() == [f"{out}.csv", f"{out}.png", f"{out}.svg"]
    assert sorted(path.name for path in tmp_path.glob("both*")) == ["both.csv", "both.png", "both.svg"]
    table = pd.read_csv(f"{out}.csv")
    assert list(table.columns) == COLUMNS
    counts = table.groupby("network").size()
    assert counts.to_dict() == {"nf_resnet26": 8 * 3 * 2, "torchvision:resnet18": 8 * 3 * 2}
    assert set(table["seed"]) == {0, 1}
    assert set(table["statistic"]) == {"avg_sq_mean", "avg_var", "res_var"}
    assert table["measured"].notna().all()
    ours = table["network"] == "nf_resnet26"
    assert table.loc[ours, "predicted"].notna().all()
    assert table.loc[~ours, "predicted"].isna().all()
    with Image.open(f"{out}.png") as image:
        assert image.width == 1400  # 7 inches
    svg = Path(f"{out}.svg").read_text()
    assert "torchvision:resnet18" in svg
    assert "2 seeds" in svg


def test_spp_with_options(here: Here, tmp_path: Path) -> None:
    small = ["--set", "model.blocks=[1,1]", "--set", "model.width=0.25"]
    code, _, err = here("spp", "nf_resnet", "bn_resnet", *SMALL, *small, "--log", "--out", "small")
    assert code == 0, err
    table = pd.read_csv(tmp_path / "small.csv")
    assert list(table.columns) == COLUMNS
    assert table.groupby("network").size().to_dict() == {"nf_resnet": 2 * 3 * 2, "bn_resnet": 2 * 3 * 2}
    assert table["predicted"].notna().all()
    # Standardized weights keep the variance of the branch near 1, but for zero padding and 16 channels.
    res_var = table[(table["network"] == "nf_resnet") & (table["statistic"] == "res_var")]["measured"]
    assert res_var.between(0.3, 2.0).all()
    # It makes the same files again only when told to.
    before = {path.name: path.read_bytes() for path in tmp_path.glob("small.*")}
    is_one_line(here("spp", "nf_resnet", "bn_resnet", *SMALL, *small, "--log", "--out", "small"))
    assert {path.name: path.read_bytes() for path in tmp_path.glob("small.*")} == before
    code, _, _ = here("spp", "nf_resnet", "bn_resnet", *SMALL, *small, "--log", "--out", "small", "--force")
    assert code == 0
    assert {path.name: path.read_bytes() for path in tmp_path.glob("small.*")} == before
    here("spp", "nf_resnet", *SMALL, *small, "--out", "small", "--force")
    assert set(pd.read_csv(tmp_path / "small.csv")["network"]) == {"nf_resnet"}


def test_spp_measures_what_hooks_see(here: Here, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    call = ["spp", "torchvision:resnet18", "--pixels", "32", "--batch", "3", "--seeds", "1", "--out", "seen"]
    code, _, err = here(*call, "--input", "images:pictures")
    assert code == 0, err
    table = pd.read_csv(tmp_path / "seen.csv")
    torch.manual_seed(cli_seed())
    model = torchvision.models.resnet18(weights=None).train()  # the statistics of the batch
    rows: list[float] = []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        for block in stage:
            block.register_forward_hook(
                lambda _m, _i, out: rows.append(float(out.double().numpy().var((0, 2, 3)).mean()))
            )
    images = np.stack([np.asarray(Image.open(tmp_path / "pictures" / f"{number}.png")) for number in range(3)])
    x = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        model(torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float32))
    found = table[table["statistic"] == "avg_var"]
    np.testing.assert_allclose(found["measured"], rows, rtol=1e-3)
    assert found["stage"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]


def cli_seed() -> int:
    """Of the weights of the first initialisation."""
    from nfrepro.seeding import stream_seed

    return stream_seed("weights", 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nf_resnt50"], "did you mean nf_resnet?"),
        (["torchvision:resnet81"], "did you mean resnet18?"),
        (["nf_resnet26", "torchvision:resnet18", "--set", "model.width=0.5"], "only for networks of nfrepro"),
        (["nf_resnet26", "--set", "model.alhpa=1"], "did you mean alpha?"),
        (["nf_resnet26", "--set", "width=1"], "expected model.OPTION=VALUE"),
        (["nf_resnet26", "--input", "noise"], "expected gaussian or images:DIR"),
        (["nf_resnet26", "--input", "images:"], "expected gaussian or images:DIR"),
        (["nf_resnet26", "--input", "images:nowhere"], "nowhere is not a folder"),
        (["nf_resnet26", "--input", "images:."], "0 image files below it, 2 wanted"),
        (["nf_resnet26", "--out", "nowhere/x"], "nowhere is not a folder"),
        (["nf_resnet26", "--blocks", "("], "not a regular expression"),
        (["nf_resnet26", "--blocks", "nothing"], "matches no module's whole name"),
        (["torchvision:alexnet", "--pixels", "64"], "name the modules to measure with --blocks"),
        (["nf_resnet26", "--pixels", "4"], "too small"),
        (["nf_resnet26", "--pixels", "0"], "--pixels"),
        (["nf_resnet26", "--seeds", "0"], "--seeds"),
        ([], "MODEL"),
    ],
)
def test_bad_calls_of_spp(here: Here, tmp_path: Path, arguments: list[str], message: str) -> None:
    called = here("spp", *SMALL, *arguments)
    is_one_line(called)
    assert message in called[2]
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_stops_spp_before_it_measures(here: Here, tmp_path: Path) -> None:
    (tmp_path / "spp.svg").write_text("mine")
    code, _, err = here("spp", "nf_resnet600")  # would take minutes
    assert code == 2
    assert err == "nfrepro: spp.svg already exists: replace it with --force, or name another --out\n"
    assert (tmp_path / "spp.svg").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["spp.svg"]


@pytest.mark.parametrize("out", [".", "/"])
def test_an_out_without_name_is_one_line(here: Here, out: str) -> None:
    is_one_line(here("spp", "nf_resnet26", *SMALL, "--out", out))


@pytest.mark.parametrize("model", ["math:sqrt", "builtins:dict", "torchvision:vit_b_16"])
def test_what_is_no_network_for_these_images_is_one_line(here: Here, model: str) -> None:
    is_one_line(here("spp", model, *SMALL))


def test_blocks_without_residual_branch_are_drawn(here: Here, tmp_path: Path) -> None:
    call = ["spp", "torchvision:alexnet", "--pixels", "64", "--batch", "2", "--seeds", "1"]
    code, _, _ = here(*call, "--blocks", r"features\.(0|3|6)")
    assert code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spp.csv", "spp.png", "spp.svg"]
    assert pd.read_csv(tmp_path / "spp.csv")["block"].max() == 3


def test_a_network_named_twice_is_refused(here: Here, tmp_path: Path) -> None:
    small = ["--set", "model.blocks=[1,1]", "--set", "model.width=0.25"]
    code, _, complaint = here("spp", "nf_resnet", "nf_resnet", *SMALL, *small)
    assert code == 2
    assert "name each network once: nf_resnet, nf_resnet" in complaint
    assert not (tmp_path / "spp.csv").exists()


OWN_NETWORK = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.f, self.gain = nn.Linear(8, 8), nn.Parameter(torch.full((8,), gain))

    def forward(self, x):
        return x + self.gain * self.f(x)

class Tokens(nn.Module):
    def forward(self, x):
        return x.flatten(2).transpose(1, 2)

def network():
    return nn.Sequential(nn.Conv2d(3, 8, 1), Tokens(), Block(1e-6), Block(1.0), Block(1e-6))
"""


def test_layouts_and_silent_branches_are_said_in_a_line_each(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_tokens.py").write_text(OWN_NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    code, _, err = here("spp", "my_tokens:network", *SMALL)
    assert code == 0
    layouts, silent = err.splitlines()[-2:]
    assert layouts == "my_tokens:network: activations were read as [N, T, C] in 3 blocks"
    assert silent.startswith("my_tokens:network: 2 of 3 residual branches are silent")
    assert silent.endswith("--unit-gains shows them with gains of 1")
    code, _, err = here("spp", "my_tokens:network", *SMALL, "--unit-gains", "--force")
    assert code == 0
    assert "silent" not in err
