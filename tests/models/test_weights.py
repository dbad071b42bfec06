"""Weights in files: what comes over, what is written, and that a bad file is refused in one line."""

import io
import json
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import timm
import torch
from authors_weights import read_npz
from torch import nn

from nfrepro.errors import InputError
from nfrepro.models import create, load_haiku
from nfrepro.models.options import FAMILIES
from nfrepro.models.options import test_pixels as pixels_of
from nfrepro.models.weights import Description, build_network, load_own, read_weights, write_weights

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "tests" / "reference"
TINY = {"blocks": [1, 1], "width": 0.0625}
DESCRIPTION = Description("nf_resnet", TINY, 4, 3, "nfrepro", "0" * 64)


def tiny(**options: Any) -> nn.Module:
    return create("nf_resnet", num_classes=4, **TINY, **options)


def saved(path: Path, tensors: dict[str, Any]) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return path


def refusal(path: Path, name: str | None = "nf_resnet", options: dict[str, Any] | None = None) -> str:
    """The one line with which reading and building is refused."""
    with pytest.raises(InputError) as refused:
        build_network(read_weights(path), name, TINY if options is None else options)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
@pytest.mark.parametrize(
    ("name", "file"), [("nf_resnet50", "nf_resnet50_relu.npz"), ("bn_resnet50", "resnet50_bn.npz")]
)
def test_the_authors_weights_survive_the_round_trip(name: str, file: str, ending: str, tmp_path: Path) -> None:
    direct = create(name, width=0.25, num_classes=10)
    load_haiku(direct, *read_npz(REFERENCE / file))
    model, description = build_network(read_weights(REFERENCE / file), name, {"width": 0.25})
    write_weights(tmp_path / f"out{ending}", model, description)
    again, known = build_network(read_weights(tmp_path / f"out{ending}"))
    assert known == description
    assert (known.model, known.num_classes, known.in_channels, known.source_naming) == (name, 10, 3, "authors")
    assert known.options["width"] == 0.25
    assert set(known.options) == set(FAMILIES[name.rstrip("0123456789")].model_fields) - {"name"}
    for key, value in direct.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    x = torch.from_numpy(np.load(REFERENCE / file)["input"].astype(np.float32)).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = direct.eval()(x)
        # Equal weights; a kernel may add in another order where its memory lies elsewhere, layer after layer.
        torch.testing.assert_close(again.eval()(x), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("name", ["nf_resnet26", "nf_regnet_b0"])
def test_timms_weights_give_timms_logits(name: str, ending: str, tmp_path: Path) -> None:
    theirs = timm.create_model(name, num_classes=7, in_chans=2).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    path = saved(tmp_path / f"timm{ending}", theirs.state_dict())
    model, description = build_network(read_weights(path), name)
    assert (description.source_naming, description.num_classes, description.in_channels) == ("timm", 7, 2)
    write_weights(tmp_path / "out.safetensors", model, description)
    ours = build_network(read_weights(tmp_path / "out.safetensors"))[0].eval()
    x = torch.randn(2, 2, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_our_own_state_dict_comes_over_bit_by_bit(ending: str, tmp_path: Path) -> None:
    source = tiny(activation="silu")
    path = saved(tmp_path / f"own{ending}", source.state_dict())
    model, description = build_network(read_weights(path), "nf_resnet", {**TINY, "activation": "silu"})
    assert description.source_naming == "nfrepro"
    assert description.options["activation"] == "silu"
    assert all(torch.equal(source.state_dict()[key], value) for key, value in model.state_dict().items())


def test_bfloat16_comes_over_exactly(tmp_path: Path) -> None:
    tensors = {name: tensor.bfloat16() for name, tensor in tiny().state_dict().items()}
    model, _ = build_network(read_weights(saved(tmp_path / "a.safetensors", tensors)), "nf_resnet", TINY)
    assert all(torch.equal(tensors[key].float(), value) for key, value in model.state_dict().items())


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    write_weights(tmp_path / "a.safetensors", tiny(), DESCRIPTION)
    with safetensors.safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["nfrepro"]) == {**asdict(DESCRIPTION), "format_version": 1}
    write_weights(tmp_path / "a.pt", tiny(), DESCRIPTION)
    assert set(torch.load(tmp_path / "a.pt", weights_only=True)) == {"nfrepro", "state_dict"}


def test_a_described_file_takes_no_other_description(tmp_path: Path) -> None:
    write_weights(tmp_path / "a.pt", tiny(), DESCRIPTION)
    assert "names its network (nf_resnet)" in refusal(tmp_path / "a.pt", "nf_resnet", {})
    assert "leave out --model and --set" in refusal(tmp_path / "a.pt", None, {"alpha": 0.5})


def test_an_undescribed_file_needs_a_name(tmp_path: Path) -> None:
    assert "give --model NAME" in refusal(saved(tmp_path / "a.pt", tiny().state_dict()), None, {})


def drop(tensors: dict[str, Any]) -> None:
    del tensors["stages.0.0.conv1.gain"]


def add(tensors: dict[str, Any]) -> None:
    tensors["stages.0.0.conv9.gain"] = torch.ones(1)


def reshape(tensors: dict[str, Any]) -> None:
    tensors["stages.0.0.conv1.weight"] = torch.ones(2, 2)


def flatten(tensors: dict[str, Any]) -> None:
    tensors["linear.weight"] = torch.ones(4)


def quantize(tensors: dict[str, Any]) -> None:
    tensors["linear.bias"] = torch.zeros(4, dtype=torch.int8)


def spoil(tensors: dict[str, Any]) -> None:
    tensors["linear.bias"] = torch.tensor([0.0, float("nan"), float("inf"), 1.0])


def anonymise(tensors: dict[str, Any]) -> None:
    tensors["fc.weight"] = tensors.pop("linear.weight")


def name_twice(tensors: dict[str, Any]) -> None:
    tensors["head.fc.weight"] = tensors["linear.weight"].clone()


BAD_TENSORS: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (drop, "does not fit the network: stages.0.0.conv1.gain: missing"),
    (add, "stages.0.0.conv9.gain: the network has no place for it"),
    (reshape, "stages.0.0.conv1.weight: shape [2, 2] does not fit [4, 4, 3, 3]"),
    (flatten, "linear.weight: shape [4] is not a classifier's"),
    (quantize, "linear.bias: int8 does not fit float32"),
    (spoil, "linear.bias: 2 of 4 numbers are not finite"),
    (anonymise, "no linear.weight or head.fc.weight among its tensors"),
    (name_twice, "more than one of linear.weight or head.fc.weight"),
]


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
@pytest.mark.parametrize(("change", "message"), BAD_TENSORS, ids=[change.__name__ for change, _ in BAD_TENSORS])
def test_tensors_that_do_not_fit_are_named(change: Any, message: str, ending: str, tmp_path: Path) -> None:
    tensors = tiny().state_dict()
    change(tensors)
    assert message in refusal(saved(tmp_path / f"a{ending}", tensors))


@pytest.mark.parametrize(
    ("value", "kind"),
    [(torch.ones(64).int(), "int32"), (torch.ones(64) * 1j, "complex64"), (torch.ones(64).bool(), "bool")],
)
def test_integers_and_complex_numbers_are_refused_under_timms_names_too(
    value: torch.Tensor, kind: str, tmp_path: Path
) -> None:
    tensors = timm.create_model("nf_resnet26", num_classes=3).state_dict()
    tensors["stages.0.0.conv1.gain"] = value.view_as(tensors["stages.0.0.conv1.gain"])
    message = refusal(saved(tmp_path / "a.pt", tensors), "nf_resnet26", {})
    assert f"load_timm: stages.0.0.conv1.gain: {kind} does not fit stages.0.0.conv0.gain float32" in message


def no_huge_network(name: str, **options: Any) -> nn.Module:
    """`create`, but for a network that would fill the memory of this machine."""
    assert torch.get_default_device().type == "meta" or options["num_classes"] < 1e6
    return create(name, **options)


@pytest.mark.parametrize("shape", [(2**30, 32), (2**30, 0)])
@pytest.mark.parametrize("naming", ["linear.weight", "head.fc.weight"])
def test_a_tensor_that_is_huge_on_paper_asks_for_no_memory(
    naming: str, shape: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nfrepro.models.weights.create", no_huge_network)
    tensors = {name: tensor for name, tensor in tiny().state_dict().items() if not name.startswith("linear")}
    tensors[naming] = torch.zeros(1, 1).expand(shape) if shape[1] else torch.zeros(shape)
    if naming == "linear.weight":
        tensors["linear.bias"] = torch.zeros(1).expand(2**30)
    path = saved(tmp_path / "a.pt", tensors)
    assert path.stat().st_size < 50_000
    name, options = ("nf_resnet", TINY) if naming == "linear.weight" else ("nf_resnet26", {})
    message = refusal(path, name, options)
    assert re.search(r": 34,359,738,368 numbers expanded from 4 bytes: save a copy|does not fit the network", message)


def authors_arrays() -> dict[str, Any]:
    stored = np.load(REFERENCE / "nf_resnet50_relu.npz")
    return {key: stored[key] for key in stored.files if key.startswith("param/")}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("param/NF_ResNet/~/linear/more", np.zeros(10, np.float32), "more: the network has no place for it"),
        ("param/NF_ResNet/~/linear/b", np.zeros(11, np.float32), "b: shape [11] does not fit linear.bias [10]"),
        ("param/NF_ResNet/~/linear/b", np.zeros(10, int), "b: not an array of floating-point numbers, but of int64"),
        ("param/NF_ResNet/~/linear/b", np.zeros(10, complex), "b: not an array of floating-point numbers, but of comp"),
    ],
)
def test_an_archive_is_judged_before_it_is_unpacked(
    key: str, value: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "a.npz", **{**authors_arrays(), key: value})
    unpacked = []
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda _, key: unpacked.append(key))
    assert message in refusal(tmp_path / "a.npz", "nf_resnet50", {"width": 0.25})
    assert unpacked == []


def test_an_archive_of_many_classes_asks_for_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nfrepro.models.weights.create", no_huge_network)
    np.savez(tmp_path / "a.npz", **{**authors_arrays(), "param/NF_ResNet/~/linear/w": np.zeros((0, 2**30))})
    message = refusal(tmp_path / "a.npz", "nf_resnet50", {"width": 0.25})
    assert "does not fit the network: it has 550," in message


def test_an_array_that_is_not_as_large_as_its_header_says_is_named(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**35, 2)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("param/A/~/linear/w.npy", header.getvalue() + bytes(12))
    message = refusal(tmp_path / "a.npz")
    assert "param/A/~/linear/w: its header declares 274,877,906,944 bytes, the archive holds 12" in message


def test_a_refused_state_dict_changes_nothing() -> None:
    model, tensors = tiny(), tiny(skipinit_gain=3.0).state_dict()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    drop(tensors)
    with pytest.raises(InputError):
        load_own(model, tensors)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_loaders_own_refusals_come_with_the_file(tmp_path: Path) -> None:
    message = refusal(REFERENCE / "resnet50_bn.npz", "bn_resnet26", {"width": 0.25})
    assert "resnet50_bn.npz: load_haiku: " in message
    path = saved(tmp_path / "a.pt", timm.create_model("nf_resnet26", num_classes=3).state_dict())
    assert "a.pt: load_timm: " in refusal(path, "nf_resnet50", {})
    assert "nf_resnet26" in refusal_of_name(path, "nf_resnet27")


def refusal_of_name(path: Path, name: str) -> str:
    with pytest.raises(InputError) as refused:
        build_network(read_weights(path), name)
    return str(refused.value)


def test_batch_norm_without_averages_is_refused(tmp_path: Path) -> None:
    arrays = {key: value for key, value in np.load(REFERENCE / "resnet50_bn.npz").items() if key.startswith("param/")}
    np.savez(tmp_path / "a.npz", **arrays)
    assert "mean_ema" in refusal(tmp_path / "a.npz", "bn_resnet50", {"width": 0.25})


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "sprung")
    torch.save({"linear.weight": trap}, tmp_path / "a.pt")
    torch.save({"linear.weight": trap}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "a.npz").write_bytes(pickle.dumps(trap))
    np.savez(tmp_path / "b.npz", **{"param/A/~/linear/w": np.array([trap], object)})
    for name in ("a.pt", "old.pt"):
        assert "holds something other than tensors" in refusal(tmp_path / name)
    for name in ("a.npz", "b.npz"):
        assert "a pickle could execute code, so it is not read: re-save it as in docs/weights.md" in refusal(
            tmp_path / name
        )
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "missing", "folder"])
@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".pt"])
def test_a_file_that_is_not_whole_is_refused(kind: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    if kind == "truncated":
        if ending == ".npz":
            np.savez(path, **{"param/A/~/linear/w": np.ones((100, 100))})
        else:
            saved(path, tiny().state_dict())
        path.write_bytes(path.read_bytes()[:-3000])
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_text("" if kind == "empty" else "these are no weights")
    expected = {"missing": "no such file", "folder": "not a regular file"}
    assert expected.get(kind, "") in refusal(path)


def test_other_endings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"")
    assert "unknown type '.ckpt'" in refusal(tmp_path / "a.ckpt")


@pytest.mark.parametrize("content", [torch.ones(3), [1, 2], {"state_dict": {"a": torch.ones(1)}}, {"a": 1}, {}])
def test_a_pt_file_of_something_else_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    refusal(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format 2 of a newer nfrepro"),
        ({"options": "none"}, "bad options"),
        ({"num_classes": "4"}, "bad num_classes"),
        ({"num_classes": True}, "bad num_classes"),
        ({"num_classes": 5}, "linear.weight: shape"),
        ({"options": {"name": "bn_resnet"}}, "has name among the options"),
        ({"options": {**TINY, "alhpa": 1.0}}, "unknown option 'alhpa'"),
        ({"options": {**TINY, "width": 8.0}}, "does not fit the network: stages.0.0.conv0.weight: shape [4, 4, 1, 1]"),
        ({"options": {"blocks": [10**12]}}, "1,000,000,000,000 blocks"),
        ({"model": "no_net"}, "unknown model 'no_net'"),
        ({"more": 1}, "not complete"),
    ],
)
def test_a_bad_description_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = {"nfrepro": {**asdict(DESCRIPTION), **change}, "state_dict": tiny().state_dict()}
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        build_network(read_weights(tmp_path / "a.pt"))
    assert "\n" not in str(refused.value)


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    for path, message in [
        (tmp_path / "a.npz", "unknown type '.npz'"),
        (tmp_path / "none" / "a.pt", "does not exist: create it first"),
        (tmp_path, "unknown type"),
    ]:
        with pytest.raises(InputError, match=re.escape(message)):
            write_weights(path, tiny(), DESCRIPTION)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.pt").write_text("precious")
    with pytest.raises(InputError, match="already exists"):
        write_weights(tmp_path / "a.pt", tiny(), DESCRIPTION)
    assert (tmp_path / "a.pt").read_text() == "precious"
    write_weights(tmp_path / "a.pt", tiny(), DESCRIPTION, replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
    assert build_network(read_weights(tmp_path / "a.pt"))[1] == DESCRIPTION


def test_the_documents_snippet_saves_what_we_read(tmp_path: Path) -> None:
    params, _ = read_npz(REFERENCE / "nf_resnet50_relu.npz")
    (tmp_path / "F0_haiku.npz").write_bytes(pickle.dumps(params))
    assert "is not read: re-save it" in refusal(tmp_path / "F0_haiku.npz")
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "weights.md").read_text(), flags=re.DOTALL)
    (resave,) = [snippet for snippet in snippets if "pickle" in snippet]
    subprocess.run([sys.executable, "-c", resave], cwd=tmp_path, check=True)
    model, _ = build_network(read_weights(tmp_path / "F0.npz"), "nf_resnet50", {"width": 0.25})
    direct = build_network(read_weights(REFERENCE / "nf_resnet50_relu.npz"), "nf_resnet50", {"width": 0.25})[0]
    assert all(torch.equal(direct.state_dict()[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "options", "pixels"),
    [
        ("nf_resnet50", {}, 224),
        ("bn_resnet", {"depth": 101}, 224),
        ("nf_regnet_b1", {}, 256),
        ("bn_regnet", {"variant": "b5"}, 456),
        ("nfnet_f0", {}, 256),
    ],
)
def test_the_size_of_test_images_goes_with_the_network(name: str, options: dict[str, Any], pixels: int) -> None:
    assert pixels_of(name, options) == pixels
