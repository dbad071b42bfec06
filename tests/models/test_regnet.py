"""RegNets: sizes and costs, shapes, the block's formula, variance at initialisation, and what they refuse."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nfrepro.models.blocks import StochasticDepth
from nfrepro.models.cost import count_authors_multiply_adds
from nfrepro.models.registry import parse_options
from nfrepro.models.regnet import BNRegNet, NFRegNet, NFRegNetBlock, RegNet, block_shapes
from nfrepro.models.regnet_options import VARIANTS, BNRegNetOptions, NFRegNetOptions, RegNetOptions
from nfrepro.signal import expected_variance


def nf_regnet(num_classes: int = 10, in_channels: int = 3, **options: Any) -> Any:
    return NFRegNet(NFRegNetOptions(**options), num_classes, in_channels)


def bn_regnet(num_classes: int = 10, in_channels: int = 3, **options: Any) -> Any:
    return BNRegNet(BNRegNetOptions(**options), num_classes, in_channels)


def millions(model: nn.Module) -> float:
    return round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2)


def billion_multiply_adds(model: nn.Module, pixels: int) -> float:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, pixels, pixels))
    return float(counter.get_total_flops() / 2 / 1e9)


def mean_variance(x: Tensor) -> float:
    """Variance of each channel, averaged over channels."""
    return x.var((0, 2, 3), correction=0).mean().item()


@pytest.mark.parametrize(
    ("variant", "expected"), [("b0", 8.60), ("b1", 10.02), ("b2", 13.79), ("b3", 18.14), ("b4", 29.32), ("b5", 48.71)]
)
def test_parameters_equal_the_authors_code(variant: Any, expected: float) -> None:
    with torch.device("meta"):
        nf, bn = nf_regnet(1000, variant=variant), bn_regnet(1000, variant=variant)
    assert millions(nf) == expected
    assert millions(bn) == pytest.approx(expected, abs=0.011)  # two vectors a norm, for two a convolution and a scalar


@pytest.mark.parametrize(
    ("variant", "expected", "counted"),
    [
        ("b0", 0.444, 0.444),
        ("b1", 0.734, 0.734),
        ("b2", 1.099, 1.145),
        ("b3", 1.999, 1.999),
        ("b4", 4.467, 4.467),
        ("b5", 10.561, 11.098),
    ],
)
def test_multiply_adds_at_test_resolution_equal_the_authors_count(
    variant: Any, expected: float, counted: float
) -> None:
    # The authors halve sizes without rounding: 272 pixels make a last stage of 8.5, and 456 of 28.5 and 14.25, where
    # the network rounds up. Their count is linear in the number of pixels: two sizes that halve evenly give the line.
    with torch.device("meta"):
        model = nf_regnet(1000, variant=variant).eval()
    pixels = VARIANTS[variant].test_pixels
    assert billion_multiply_adds(model, pixels) == pytest.approx(counted, rel=1e-3)
    small, large = billion_multiply_adds(model, 224), billion_multiply_adds(model, 256)
    per_pixel = (large - small) / (256**2 - 224**2)
    assert small + per_pixel * (pixels**2 - 224**2) == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("build", [nf_regnet, bn_regnet])
@pytest.mark.parametrize(("pixels", "sizes"), [(64, [16, 8, 4, 2]), (50, [13, 7, 4, 2])])
@pytest.mark.parametrize("padding", ["same", "torch"])
def test_stages_have_the_codes_widths_and_strides(build: Any, pixels: int, sizes: list[int], padding: str) -> None:
    model = build(7, 1, width=0.5, padding=padding)
    x = model.forward_stem(torch.randn(2, 1, pixels, pixels))
    assert x.shape == (2, 18, (pixels + 1) // 2, (pixels + 1) // 2)
    for stage, size, width, depth in zip(model.stages, sizes, [18, 39, 78, 165], [1, 3, 6, 6], strict=True):
        x = stage(x)
        assert x.shape == (2, width, size, size)
        assert len(stage) == depth
    assert model.final_conv.out_channels == 480
    assert model(torch.randn(2, 1, pixels, pixels)).shape == (2, 7)


def test_inner_widths_are_whole_groups_of_the_expanded_input() -> None:
    # B0: 1 x 36, then 2.25 x 36, 78, 156 and 330 channels, rounded down to multiples of 8.
    inner = [shape.inner_channels for stage in block_shapes(RegNetOptions()) for shape in stage]
    assert inner == [32, 80, 168, 168, 168, *[344] * 5, 344, *[736] * 5]
    model = nf_regnet(group_width=4, width=0.25)
    block: NFRegNetBlock = model.stages[1][0]
    assert (block.conv1.in_channels, block.conv1.groups) == (20, 5)
    assert block.squeeze_excite.fc0.out_features == 10


def test_group_width_1_is_a_depthwise_convolution() -> None:
    model = nf_regnet(group_width=1, width=0.25)
    block: NFRegNetBlock = model.stages[2][1]
    assert block.conv1.groups == block.conv1.in_channels == int(39 * 2.25) == 87
    assert block.conv1.weight.shape[1] == 1
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 10)


def test_residual_branches_keep_the_ledgers_variance() -> None:
    # Each block sees white noise of the variance that the ledger expects. The whole network would not follow the
    # ledger: the average pool of a transition block leaves 1/4 of the variance of white noise. Zero padding (2 to 4 %
    # at 32 pixels), gates away from 1/2 and channels drawn once are what the tolerance is for; ReLU, since beta acts
    # after the activation, which is exact only for positively homogeneous ones.
    torch.manual_seed(0)
    model = nf_regnet(width=0.5, activation="relu", gamma="exact", skipinit_gain=1.0, stochastic_depth=0.0, alpha=0.5)
    scales = itertools.chain(*expected_variance(VARIANTS["b0"].depths, 0.5))
    blocks: list[Any] = [block for stage in model.stages for block in stage]
    branches, outputs, expected = [], [], []
    with torch.no_grad():
        for block, scale in zip(blocks, scales, strict=True):
            x = torch.randn(4, block.conv0.in_channels, 32, 32) * scale.beta
            branches.append(mean_variance(block.residual_branch(block.activated(x))))
            if not scale.transition:
                outputs.append(mean_variance(block(x)))
                expected.append(scale.output_variance)
    assert branches == pytest.approx([1.0] * len(blocks), rel=0.15)
    assert sum(branches) / len(branches) == pytest.approx(1.0, abs=0.06)
    assert outputs == pytest.approx(expected, rel=0.05)


def test_average_pool_of_transition_blocks_leaves_a_quarter_of_white_noise() -> None:
    torch.manual_seed(0)
    model = nf_regnet(activation="relu", gamma="exact", skipinit_gain=0.0)
    transition: NFRegNetBlock = model.stages[3][0]
    with torch.no_grad():
        shortcut = transition(torch.randn(4, 156, 32, 32) * transition.beta)
    assert mean_variance(shortcut) == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize(
    ("activation", "source"), [("relu", "exact"), ("silu", "published"), ("tanh", "published"), ("silu", "none")]
)
def test_block_is_its_formula(activation: Any, source: str) -> None:
    # Scales on activations, squeeze-excite and pool written out; an odd size, so that the last windows are half empty.
    torch.manual_seed(0)
    constants: dict[str, Any] = {"skipinit_gain": 0.75, "alpha": 0.5, "squeeze_excite_gain": 1.5, "gamma": source}
    model = nf_regnet(width=0.25, activation=activation, **constants)
    model.double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "skip_gain" not in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    activations: dict[str, Callable[[Tensor], Tensor]] = {
        "relu": torch.relu,
        "silu": lambda t: t * torch.sigmoid(t),
        "tanh": torch.tanh,
    }
    act = activations[activation]
    gamma = 1.0 if source == "none" else model.gamma_after_activation

    def branch(block: Any, entering: Tensor) -> Tensor:
        out = block.conv1(gamma * act(block.conv0(entering)))
        excite = block.squeeze_excite
        gates = torch.sigmoid(excite.fc1(torch.relu(excite.fc0(out.mean((2, 3))))))
        result: Tensor = block.conv2(gamma * act(1.5 * gates[:, :, None, None] * out))
        return result

    x = torch.randn(2, 19, 7, 7, dtype=torch.float64)
    plain: Any = model.stages[1][1]
    entering = gamma * act(x) / (1 + 0.5**2) ** 0.5
    torch.testing.assert_close(plain(x), x + 0.5 * 0.75 * branch(plain, entering), rtol=1e-12, atol=1e-12)

    transition: Any = model.stages[2][0]
    entering = gamma * act(x) / (1 + 3 * 0.5**2) ** 0.5
    rows = [entering[:, :, start : start + 2].mean(2) for start in (0, 2, 4, 6)]
    halved = torch.stack(rows, dim=2)
    columns = [halved[:, :, :, start : start + 2].mean(3) for start in (0, 2, 4, 6)]
    pooled = torch.stack(columns, dim=3)
    expected = transition.conv_shortcut(pooled) + 0.5 * 0.75 * branch(transition, entering)
    torch.testing.assert_close(transition(x), expected, rtol=1e-12, atol=1e-12)

    features = act(model.final_conv(model.stages[3](model.stages[2](x)))) * gamma
    torch.testing.assert_close(model.forward_head(model.stages[3](model.stages[2](x))), features.mean((2, 3)))


def test_zero_skipinit_gain_makes_other_blocks_the_identity() -> None:
    model = nf_regnet(width=0.25)
    x = torch.randn(2, 19, 6, 6)
    for block in model.stages[1][1:]:
        assert torch.equal(block(x), x)
    assert nf_regnet(width=0.25, skipinit_gain=None).stages[1][1].skip_gain is None


def test_stochastic_depth_grows_with_the_block_and_drops_whole_branches() -> None:
    model = nf_regnet(width=0.25, stochastic_depth=0.8, skipinit_gain=1.0)
    rates = [module.rate for module in model.modules() if isinstance(module, StochasticDepth)]
    assert rates == pytest.approx([0.8 * index / 16 for index in range(16)])
    torch.manual_seed(0)
    block: Any = model.stages[3][5]
    x = torch.randn(200, 82, 1, 1)
    with torch.no_grad():
        change = block(x) - x
        kept = change.flatten(1).any(1)
        # Without rescaling, a branch that is kept is the one of the test.
        torch.testing.assert_close(change[kept], (block.eval()(x) - x)[kept])
    assert kept.float().mean().item() == pytest.approx(0.25, abs=0.1)


def test_dropout_is_the_variants_own_unless_given() -> None:
    with torch.device("meta"):
        assert nf_regnet(variant="b4").dropout.p == 0.4
        assert nf_regnet(variant="b4", dropout=0.0).dropout.p == 0.0


@pytest.mark.parametrize("build", [nf_regnet, bn_regnet])
def test_forward_and_backward_reach_every_parameter(build: Any) -> None:
    torch.manual_seed(0)
    options = {"skipinit_gain": 1.0} if build is nf_regnet else {}
    model: RegNet = build(width=0.25, stochastic_depth=0.0, **options)
    x = torch.randn(4, 3, 64, 64)
    assert not model(x).any()  # the classifier starts at zero
    nn.init.normal_(model.linear.weight)
    model(x).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_no_image_sees_another_in_an_nf_net() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    options: dict[str, Any] = {"width": 0.25, "stochastic_depth": 0.0, "dropout": 0.0}
    with torch.no_grad():
        nf, bn = nf_regnet(**options, skipinit_gain=1.0).double(), bn_regnet(**options).double()
        assert torch.allclose(nf.forward_pool(x)[:1], nf.forward_pool(x[:1]), rtol=1e-9)
        # Two images: BatchNorm refuses one alone where the last stage is a single pixel.
        assert not torch.allclose(bn.forward_pool(x)[:2], bn.forward_pool(x[:2]), rtol=1e-9)


def test_squeeze_excite_starts_as_in_the_authors_code() -> None:
    torch.manual_seed(0)
    excite: Any = nf_regnet().stages[3][1].squeeze_excite
    assert excite.fc0.weight.var().item() == pytest.approx(1 / 736, rel=0.02)
    assert not excite.fc0.bias.any()
    assert not excite.fc1.bias.any()


def test_widths_below_one_group_are_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"stage 1: 3 channels expand to 3, less than one group of 8;"):
        nf_regnet(width=0.1)
    with pytest.raises(ValueError, match=r"stage 2: 36 channels expand to 18, less than one group of 32;"):
        bn_regnet(group_width=32, expansion=0.5)


def test_images_of_another_shape_are_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"images must be \[N, 3, H, W\], got \[1, 1, 32, 32\]"):
        nf_regnet(width=0.25)(torch.randn(1, 1, 32, 32))


def test_options_have_labels_and_refuse_strangers() -> None:
    assert NFRegNetOptions(variant="b3").label == "nf_regnet_b3-alpha0.2"
    assert BNRegNetOptions().label == "bn_regnet_b0"
    for stranger in ({"variant": "b6"}, {"group_width": 0}, {"alhpa": 0.1}, {"width": "1"}, {"dropout": 1.0}):
        with pytest.raises(ValueError, match=next(iter(stranger))):
            NFRegNetOptions.model_validate(stranger)


@pytest.mark.parametrize(
    ("variant", "test_pixels", "billions"),
    [
        ("b0", 224, 0.444),
        ("b1", 256, 0.734),
        ("b2", 272, 1.099),
        ("b3", 320, 1.999),
        ("b4", 384, 4.467),
        ("b5", 456, 10.561),
    ],
)
def test_the_authors_count_of_multiply_adds_is_that_of_figure_3(
    variant: str, test_pixels: int, billions: float
) -> None:
    options = parse_options(f"nf_regnet_{variant}", {})
    found = count_authors_multiply_adds(options, 1000, 3, test_pixels, test_pixels)
    assert found / 1e9 == pytest.approx(billions, abs=0.0005)
