"""Loading the authors' weights: what is copied where, and what is refused with the network left as it was."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from authors_weights import read_npz
from torch import nn

from nfrepro.errors import InputError
from nfrepro.models import create
from nfrepro.models.haiku import load_haiku

REFERENCE = Path(__file__).parents[1] / "reference"
Tree = dict[str, dict[str, Any]]


def nf_reference() -> Tree:
    return read_npz(REFERENCE / "nf_resnet50_relu.npz")[0]


def nf_resnet(**options: Any) -> Any:
    return create("nf_resnet50", width=0.25, num_classes=10, **options)


def bn_resnet() -> Any:
    return create("bn_resnet50", width=0.25, num_classes=10)


# Family and options -> root and block of the authors, written down from their code.
FAMILIES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "nf_resnet": ("nf_resnet", {"blocks": [2, 1], "width": 0.125}, "NF_ResNet", "nf_res_block"),
    "nf_resnet, squeeze-excite": (
        "nf_resnet",
        {"blocks": [2, 1], "width": 0.125, "squeeze_excite": "end"},
        "NF_ResNet",
        "nf_res_block",
    ),
    "bn_resnet": ("bn_resnet", {"blocks": [2, 1], "width": 0.125}, "ResNet", "res_block_v2"),
    "bn_resnet, v1": ("bn_resnet", {"blocks": [2, 1], "width": 0.125, "order": "v1"}, "ResNet", "res_block_v1"),
    "skipinit_resnet": ("skipinit_resnet", {"blocks": [2, 1], "width": 0.125}, "SkipInit_ResNet", "nf_res_block"),
    "fixup_resnet": ("fixup_resnet", {"blocks": [2, 1], "width": 0.125}, "FixUp_ResNet", "res_block"),
    "nf_regnet": ("nf_regnet_b0", {}, "NF_RegNet", "nf_block"),
    "nfnet": ("nfnet_f0", {"width": 0.125, "group_width": 8}, "NFNet", "nf_block"),
}


def authors_tree(model: Any, root: str, block: str, se: str = "squeeze_excite") -> tuple[Tree, Tree]:
    """The tree that the authors' code would make of the tensors of `model`, by their names and layouts."""
    params: Tree = {}
    state: Tree = {}
    starts = np.cumsum([0, *(len(stage) for stage in model.stages)])
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        module, _, kind = name.rpartition(".")
        owner = model.get_submodule(module)
        where = [root]
        if module.startswith("stages."):
            _, stage, index, *rest = module.split(".")
            number = starts[int(stage)] + int(index)
            where.append(f"{block}_{number}" if number else block)
        else:
            rest = module.split(".") if module else []
        names = {"squeeze_excite": se, "fc0": "linear", "fc1": "linear_1"}
        where += [names.get(part, part) for part in rest]
        path = "/~/".join(where)
        if root == "NFNet":
            path = path.replace("/~/initial_conv", "/~/stem_conv0")
        path = re.sub(r"(norm)(\d)(/~/norm)?$", r"bn\2", path)
        path = re.sub(r"_norm(/~/norm)?$", "_bn", path)
        path = path.replace("/~/shortcut/~/0", "/~/conv_shortcut").replace("/~/shortcut/~/1", "/shortcut_bn")
        value = tensor.detach().numpy()
        if kind.startswith("running"):
            average = f"{path}/~/{'mean_ema' if kind == 'running_mean' else 'var_ema'}"
            state[average] = {"counter": np.int32(3), "hidden": 0 * value, "average": value.reshape(1, 1, 1, -1)}
            continue
        if value.ndim == 4:
            kind, value = "w", value.transpose(2, 3, 1, 0)
        elif value.ndim == 2:
            kind, value = "w", value.T
        elif isinstance(owner, nn.BatchNorm2d):
            kind, value = {"weight": "scale", "bias": "offset"}[kind], value.reshape(1, 1, 1, -1)
        elif isinstance(owner, nn.Linear) or (isinstance(owner, nn.Conv2d) and not hasattr(owner, "gain")):
            kind = {"bias": "b"}[kind]
        else:
            kind = {"bias_stem": "bias1", "bias_head": "bias2", "multiplier": "scale"}.get(kind, kind)
        params.setdefault(path, {})[kind] = value
    return params, state


def scrambled(model: Any) -> Any:
    """`model` with another number in every place."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator))
    return model


@pytest.mark.parametrize("se", ["squeeze_excite", "se"])
@pytest.mark.parametrize("case", FAMILIES)
def test_every_tensor_of_every_family_comes_over(case: str, se: str) -> None:
    family, options, root, block = FAMILIES[case]
    source = scrambled(create(family, num_classes=7, **options))
    model = create(family, num_classes=7, **options)
    load_haiku(model, *authors_tree(source, root, block, se))
    for name, tensor in source.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(model.state_dict()[name], tensor), name


@pytest.mark.parametrize("names", [("A_Net", "unit"), ("ResNet_1", "bottleneck_block")])
def test_root_and_blocks_may_have_any_name(names: tuple[str, str]) -> None:
    source = scrambled(create("nf_resnet", blocks=[2, 1], width=0.125, num_classes=7))
    model = create("nf_resnet", blocks=[2, 1], width=0.125, num_classes=7)
    load_haiku(model, authors_tree(source, *names)[0])
    assert torch.equal(model.stages[1][0].conv1.weight, source.stages[1][0].conv1.weight)


def test_blocks_are_counted_through_all_stages() -> None:
    model, params = nf_resnet(), nf_reference()
    numbers = list(range(16))
    for number in numbers:
        params["NF_ResNet/~/nf_res_block" + (f"_{number}" if number else "")]["skip_gain"] = np.float32(number)
    load_haiku(model, params)
    assert [block.skip_gain.item() for stage in model.stages for block in stage] == numbers


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_are_exact_in_the_models_own_dtype(dtype: torch.dtype) -> None:
    model, params = nf_resnet().to(dtype), nf_reference()
    load_haiku(model, params)
    theirs = params["NF_ResNet/~/nf_res_block_4/~/conv1"]["w"]
    ours = model.stages[1][1].conv1.weight
    assert ours.dtype == dtype
    assert ours[5, 7, 0, 2].item() == float(theirs[0, 2, 7, 5])
    assert model.linear.weight[3, 100].item() == float(params["NF_ResNet/~/linear"]["w"][100, 3])
    assert model.initial_conv.gain[2].item() == float(params["NF_ResNet/~/initial_conv"]["gain"][2])


def test_float64_values_keep_all_their_digits() -> None:
    model, params = nf_resnet().double(), nf_reference()
    params["NF_ResNet/~/linear"]["b"] = np.arange(10) / 3
    load_haiku(model, params)
    assert model.linear.bias.tolist() == (np.arange(10) / 3).tolist()


def test_batch_norm_averages_come_from_the_state_only() -> None:
    model = bn_resnet()
    params, state = read_npz(REFERENCE / "resnet50_bn.npz")
    channels = model.final_norm.norm.num_features
    state["ResNet/~/final_bn/~/mean_ema"]["average"] = np.arange(float(channels)).reshape(1, 1, 1, -1)
    state["ResNet/~/res_block_v2_11/~/bn1/~/var_ema"]["average"] = np.full((1, 1, 1, 64), 5.0)
    load_haiku(model, params)
    assert not model.final_norm.norm.running_mean.any()
    assert model.stages[2][4].norm1.norm.running_var.eq(1).all()
    load_haiku(model, params, state)
    assert model.final_norm.norm.running_mean.tolist() == list(range(channels))
    assert model.stages[2][4].norm1.norm.running_var.eq(5).all()


def remove(params: Tree) -> None:
    del params["NF_ResNet/~/nf_res_block_12/~/conv1"]["gain"]


def add(params: Tree) -> None:
    params["NF_ResNet/~/nf_res_block_2/~/conv1"]["b"] = np.zeros(16)


def add_block(params: Tree) -> None:
    params["NF_ResNet/~/nf_res_block_16"] = {"skip_gain": np.zeros(())}


def add_second_classifier(params: Tree) -> None:
    params["NF_ResNet/~/linear_1"] = {"w": np.zeros((512, 10))}


def spell_twice(params: Tree) -> None:
    params["NF_ResNet/linear"] = {"b": np.zeros(10)}


def cut(params: Tree) -> None:
    params["NF_ResNet/~/nf_res_block_2/~/conv1"]["w"] = np.zeros((3, 3, 16, 8))


def transpose(params: Tree) -> None:
    params["NF_ResNet/~/linear"]["w"] = params["NF_ResNet/~/linear"]["w"].T


def widen_a_scalar(params: Tree) -> None:
    params["NF_ResNet/~/nf_res_block_15"]["skip_gain"] = np.zeros(1)


def write_words(params: Tree) -> None:
    params["NF_ResNet/~/linear"]["b"] = np.array(["a"] * 10)


def count(params: Tree) -> None:
    params["NF_ResNet/~/linear"]["b"] = np.zeros(10, np.int64)


def rotate(params: Tree) -> None:
    params["NF_ResNet/~/linear"]["b"] = np.zeros(10, np.complex64)


def nest(params: Tree) -> None:
    params["NF_ResNet/~/linear"]["b"] = [[0.0], [0.0, 1.0]]


def expand(params: Tree) -> None:
    params["NF_ResNet/~/linear"]["b"] = np.broadcast_to(np.float32(0), 2**35)


def two_roots(params: Tree) -> None:
    params["Other/~/linear"] = {"w": np.zeros((512, 10))}


def two_blocks(params: Tree) -> None:
    params["NF_ResNet/~/other_block"] = {"skip_gain": np.zeros(())}


def many(params: Tree) -> None:
    for number in range(1, 6):
        del params[f"NF_ResNet/~/nf_res_block_{number}"]["skip_gain"]


REFUSALS: list[tuple[Callable[[Tree], None], str]] = [
    (remove, "NF_ResNet/~/nf_res_block_12/~/conv1/gain: missing, stages.2.5.conv1.gain needs it"),
    (add, "NF_ResNet/~/nf_res_block_2/~/conv1/b: the network has no place for it"),
    (add_block, "NF_ResNet/~/nf_res_block_16/skip_gain: the network has no place for it"),
    (add_second_classifier, "NF_ResNet/~/linear_1/w: the network has no place for it"),
    (spell_twice, "NF_ResNet/linear/b: the network has no place for it"),
    (
        cut,
        "NF_ResNet/~/nf_res_block_2/~/conv1/w: shape [3, 3, 16, 8] does not fit stages.0.2.conv1.weight [16, 16, 3, 3]",
    ),
    (transpose, "NF_ResNet/~/linear/w: shape [10, 512] does not fit linear.weight [10, 512]"),
    (
        widen_a_scalar,
        "NF_ResNet/~/nf_res_block_15/skip_gain: shape [1] does not fit stages.3.2.skip_gain []",
    ),
    (write_words, "NF_ResNet/~/linear/b: not an array of floating-point numbers, but of <U1"),
    (count, "NF_ResNet/~/linear/b: not an array of floating-point numbers, but of int64"),
    (rotate, "NF_ResNet/~/linear/b: not an array of floating-point numbers, but of complex64"),
    (nest, "NF_ResNet/~/linear/b: not an array of floating-point numbers"),
    (expand, "NF_ResNet/~/linear/b: shape [34359738368] does not fit linear.bias [10]"),
    (two_roots, "the tree must have one root, not NF_ResNet, Other"),
    (two_blocks, "NF_ResNet must have blocks of one name, not nf_res_block, other_block"),
    (
        many,
        "; ".join(
            f"NF_ResNet/~/nf_res_block_{number}/skip_gain: missing, stages.{place}.skip_gain needs it"
            for number, place in [(1, "0.1"), (2, "0.2"), (3, "1.0")]
        )
        + " (and 2 more)",
    ),
    (dict.clear, "the tree must have one root, not none"),
]


@pytest.mark.parametrize(("spoil", "message"), REFUSALS, ids=[spoil.__name__ for spoil, _ in REFUSALS])
def test_a_tree_that_does_not_fit_is_refused_and_nothing_is_copied(spoil: Callable[[Tree], None], message: str) -> None:
    model, params = nf_resnet(), nf_reference()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    spoil(params)
    with pytest.raises(InputError) as refusal:
        load_haiku(model, params)
    assert str(refusal.value) == f"load_haiku: {message}"
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_state_that_does_not_fit_is_refused_and_nothing_is_copied() -> None:
    model = bn_resnet()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    params, state = read_npz(REFERENCE / "resnet50_bn.npz")
    del state["ResNet/~/res_block_v2/~/bn0/~/mean_ema"]["average"]
    state["ResNet/~/final_bn/~/var_ema"]["average"] = np.ones((1, 1, 1, 3))
    state["ResNet/~/initial_bn/~/var_ema"] = {"counter": np.zeros(())}
    with pytest.raises(InputError) as refusal:
        load_haiku(model, params, state)
    assert str(refusal.value) == (
        "load_haiku: ResNet/~/res_block_v2/~/bn0/~/mean_ema/average: missing, "
        "stages.0.0.norm0.norm.running_mean needs it; "
        "ResNet/~/final_bn/~/var_ema/average: shape [1, 1, 1, 3] does not fit final_norm.norm.running_var [512]; "
        "ResNet/~/initial_bn/~/var_ema/counter: the network has no place for it"
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_network_without_the_scalar_refuses_the_scalar() -> None:
    with pytest.raises(InputError, match=r"nf_res_block/skip_gain: the network has no place for it; .*and 13 more"):
        load_haiku(nf_resnet(skipinit_gain=None), nf_reference())


def test_archives_split_into_params_and_state() -> None:
    params, state = read_npz(REFERENCE / "resnet50_bn.npz")
    assert params["ResNet/~/linear"]["w"].shape == (512, 10)
    assert set(state["ResNet/~/final_bn/~/mean_ema"]) == {"counter", "hidden", "average"}
    assert not any(module.startswith(("input", "output", "__")) for module in [*params, *state])


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "npy", "pickle", "truncated", "keyless"])
def test_files_that_are_no_archive_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("not an archive")
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "pickle":
        np.savez(path, **{"param/A/~/linear/w": np.array([{"an": "object"}], dtype=object)})
    elif kind == "truncated":
        path.write_bytes((REFERENCE / "resnet50_bn.npz").read_bytes()[:5000])
    elif kind == "keyless":
        np.savez(path, w=np.zeros(3))
    with pytest.raises(InputError, match=r"weights\.npz: ") as refusal:
        read_npz(path)
    assert "\n" not in str(refusal.value)
