"""What networks cost, against published tables, torchvision and what autograd really keeps."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from nfrepro.models import cost
from nfrepro.models.registry import build, parse_options


def test_parameters_and_multiply_adds_are_torchvisions() -> None:
    found = cost.count_cost(parse_options("bn_resnet50", {"order": "v1"}), 1000, 3, 224)
    assert found.parameters == sum(p.numel() for p in torchvision.models.resnet50().parameters())
    assert found.multiply_adds == 4_089_184_256  # torchvision's table: 4.09 G
    assert found.layers == 50 + 4  # a shortcut's convolution in each stage


@pytest.mark.parametrize(
    ("name", "pixels", "billion"),
    [("nf_regnet_b0", 224, 0.444), ("nf_regnet_b1", 256, 0.734), ("nfnet_f0", 256, 12.38)],
)
def test_multiply_adds_at_test_resolution_are_the_published(name: str, pixels: int, billion: float) -> None:
    found = cost.count_cost(parse_options(name, {}), 1000, 3, pixels)
    assert found.multiply_adds / 1e9 == pytest.approx(billion, abs=0.006)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nf_resnet", {"stochastic_depth": 0.1, "squeeze_excite": "end"}),
        ("bn_resnet", {"order": "v1"}),
        ("fixup_resnet", {}),
        ("gn_ws_resnet", {"norm_groups": 4}),
    ],
)
def test_a_deep_network_from_shallow_ones_is_exact(name: str, options: dict[str, object]) -> None:
    deep = parse_options(name, {"blocks": [4, 1, 5], "width": 0.125, **options})
    assert cost.count_cost(deep, 10, 3, 32) == cost._count(deep, 10, 3, 32)


@pytest.mark.parametrize("name", ["nf_resnet26", "bn_resnet26", "fixup_resnet26", "nf_regnet_b0"])
def test_activations_are_what_autograd_keeps(name: str) -> None:
    options = parse_options(name, {"width": 0.25})
    found = cost.count_cost(options, 10, 3, 64)
    two, five = (kept_bytes(build(options, 10, 3).train(), torch.randn(images, 3, 64, 64)) for images in (2, 5))
    assert found.activation_bytes == (five - two) / 3
    # The weights of a standardized convolution are kept in more copies where nothing is computed.
    assert 0.7 * found.kept_weight_bytes <= two - 2 * found.activation_bytes <= found.kept_weight_bytes


def kept_bytes(model: nn.Module, x: Tensor) -> int:
    """Bytes of the memory that a real forward pass keeps beside the parameters, by address."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(x)
    return sum(size for address, (size, _) in kept.items() if address not in own)
