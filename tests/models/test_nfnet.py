"""NFNets: sizes and costs, shapes, the block's formula, variance at initialisation, and what they refuse."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nfrepro.models import create
from nfrepro.models.blocks import StochasticDepth
from nfrepro.models.nfnet import NFNet, NFNetBlock, block_shapes
from nfrepro.models.nfnet_options import VARIANTS, NFNetOptions
from nfrepro.models.options import split_name
from nfrepro.signal import expected_variance

SMALL: dict[str, Any] = {"width": 0.125, "group_width": 8}


def nfnet(num_classes: int = 10, in_channels: int = 3, **options: Any) -> Any:
    return NFNet(NFNetOptions(**options), num_classes, in_channels)


def mean_variance(x: Tensor) -> float:
    """Variance of each channel, averaged over channels."""
    return x.var((0, 2, 3), correction=0).mean().item()


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [("nfnet_f0", 71.5, 12.38), ("nfnet_f1", 132.6, 35.54), ("nfnet_f2", 193.8, 62.59)],
)
def test_sizes_and_costs_equal_the_follow_ups_table(name: str, parameters: float, multiply_adds: float) -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = create(name).eval()
        pixels = VARIANTS[split_name(name)[1]["variant"]].test_pixels
        model(torch.empty(1, 3, pixels, pixels))
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1) == parameters
    assert counter.get_total_flops() / 2e9 == pytest.approx(multiply_adds, abs=0.006)


@pytest.mark.parametrize(("pixels", "sizes"), [(64, [16, 8, 4, 2]), (50, [13, 7, 4, 2])])
@pytest.mark.parametrize("padding", ["same", "torch"])
def test_features_have_the_widths_and_strides_they_say(pixels: int, sizes: list[int], padding: str) -> None:
    model = nfnet(7, 1, **SMALL, padding=padding)
    images = torch.randn(2, 1, pixels, pixels)
    assert model.forward_stem(images).shape == (2, 128, sizes[0], sizes[0])
    features = model.forward_features(images)
    assert [tuple(x.shape) for x in features] == [
        (2, width, size, size) for width, size in zip([32, 64, 192, 192], sizes, strict=True)
    ]
    assert model.feature_channels == [32, 64, 192, 192]
    assert model.feature_strides == [4, 8, 16, 32]
    assert model.forward_pool(images).shape == (2, 384)
    assert model(images).shape == (2, 7)


def test_blocks_are_those_of_the_authors_code() -> None:
    shapes = block_shapes(NFNetOptions())
    assert [len(stage) for stage in shapes] == [1, 2, 6, 3]
    assert [(stage[0].in_channels, stage[0].out_channels, stage[0].stride) for stage in shapes] == [
        (128, 256, 1),
        (256, 512, 2),
        (512, 1536, 2),
        (1536, 1536, 2),
    ]
    assert [(stage[-1].inner_channels, stage[-1].groups, stage[-1].hidden_channels) for stage in shapes] == [
        (128, 1, 128),
        (256, 2, 256),
        (768, 6, 768),
        (768, 6, 768),
    ]
    assert [[shape.has_projection for shape in stage].count(True) for stage in shapes] == [1, 1, 1, 1]
    rates = [shape.drop_rate for stage in shapes for shape in stage]
    assert rates == pytest.approx([0.25 * number / 12 for number in range(12)])


def test_residual_branches_keep_the_ledgers_variance() -> None:
    # Each block sees white noise of the variance that the ledger expects, as in test_regnet.py. The gates at the end of
    # a branch are about 1/2, hence times 2 about 1; ReLU, since beta acts after the activation.
    torch.manual_seed(0)
    options: dict[str, Any] = {"activation": "relu", "gamma": "exact", "skipinit_gain": 1.0, "stochastic_depth": 0.0}
    model = nfnet(width=0.25, group_width=32, alpha=0.5, **options)
    scales = itertools.chain(*expected_variance(VARIANTS["f0"].depths, 0.5))
    blocks: list[Any] = [block for stage in model.stages for block in stage]
    branches, outputs, expected = [], [], []
    with torch.no_grad():
        for block, scale in zip(blocks, scales, strict=True):
            x = torch.randn(4, block.conv0.in_channels, 32, 32) * scale.beta
            branches.append(mean_variance(block.residual_branch(block.activated(x))))
            if not block.shortcut_pools:  # the pool leaves 1/4 of white noise
                outputs.append(mean_variance(block(x)))
                expected.append(scale.output_variance)
    assert branches == pytest.approx([1.0] * len(blocks), rel=0.2)
    assert sum(branches) / len(branches) == pytest.approx(1.0, abs=0.06)
    assert outputs == pytest.approx(expected, rel=0.06)


def test_the_stem_keeps_unit_variance() -> None:
    # Its last activation is fed to the first block raw: white noise of variance 1 comes out with variance 1. Zero
    # padding and the 16 channels in between are what the tolerance is for.
    variances = []
    for seed in range(8):
        torch.manual_seed(seed)
        model = nfnet(**SMALL, activation="relu", gamma="exact")
        with torch.no_grad():
            variances.append(mean_variance(model.forward_stem(torch.randn(2, 3, 128, 128))))
    assert sum(variances) / len(variances) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(
    ("gamma_at", "source", "gamma"),
    [
        ("activation", "published", 1.7881293296813965),
        ("weights", "published", 1.7881293296813965),
        ("activation", "none", 1.0),
    ],
)
def test_network_is_its_formula(gamma_at: str, source: str, gamma: float) -> None:
    # Every scale on activations, squeeze-excite and pool written out, at an even size; SiLU, where x / beta inside the
    # activation would differ.
    torch.manual_seed(0)
    constants: dict[str, Any] = {"alpha": 0.5, "squeeze_excite_gain": 1.5, "gamma": source, "gamma_at": gamma_at}
    model = nfnet(4, **SMALL, activation="silu", **constants).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    scaled = gamma_at == "weights"

    def act(x: Tensor) -> Tensor:
        return gamma * x * torch.sigmoid(x)

    def unfed(convolution: nn.Module, x: Tensor) -> Tensor:
        """With gamma in the weights, convolutions that no activation feeds have it all the same."""
        out: Tensor = convolution(gamma * x if scaled else x)
        return out

    x = images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    x = model.stem_conv1(act(unfed(model.initial_conv, x)))
    x = model.stem_conv3(act(model.stem_conv2(act(x))))
    variance = 1.0
    for stage, blocks in enumerate(model.stages):
        for index, block in enumerate(blocks):
            out = act(x) / variance**0.5
            if index == 0:
                pooled = out if stage == 0 else out.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
                x, variance = block.conv_shortcut(pooled), 1.0
            out = block.conv1b(act(block.conv1(act(block.conv0(out)))))
            out = block.conv2(act(out))
            excite = block.squeeze_excite
            gates = torch.sigmoid(excite.fc1(torch.relu(excite.fc0(out.mean((2, 3))))))
            x = x + 0.5 * block.skip_gain * 1.5 * gates[:, :, None, None] * out
            variance += 0.25
    pooled = act(unfed(model.final_conv, x)).mean((2, 3)) / (gamma if scaled else 1.0)
    torch.testing.assert_close(model(images), model.linear(pooled), rtol=1e-11, atol=1e-11)


def test_zero_skipinit_gain_makes_other_blocks_the_identity() -> None:
    model = nfnet(**SMALL)
    x = torch.randn(2, 192, 6, 6)
    for block in model.stages[2][1:]:
        assert torch.equal(block(x), x)
    assert nfnet(**SMALL, skipinit_gain=None).stages[1][1].skip_gain is None


def test_the_branch_that_is_measured_is_the_one_in_the_output() -> None:
    torch.manual_seed(0)
    block: Any = nfnet(**SMALL, skipinit_gain=0.75, stochastic_depth=0.0).stages[2][1].double()
    x = torch.randn(2, 192, 6, 6, dtype=torch.float64)
    branch = block.residual_branch(block.activated(x))
    torch.testing.assert_close(block(x), x + 0.2 * 0.75 * branch, rtol=1e-12, atol=1e-12)


def test_dropping_is_the_variants_own_unless_given() -> None:
    with torch.device("meta"):
        assert nfnet(variant="f2", **SMALL).dropout.p == 0.4
        assert nfnet(variant="f2", **SMALL, dropout=0.0).dropout.p == 0.0
        rates = [m.rate for m in nfnet(**SMALL, stochastic_depth=0.6).modules() if isinstance(m, StochasticDepth)]
    assert rates == pytest.approx([0.05 * number for number in range(12)])


def test_forward_and_backward_reach_every_parameter() -> None:
    torch.manual_seed(0)
    model = nfnet(**SMALL, stochastic_depth=0.0, skipinit_gain=1.0)
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert model.linear.weight.std().item() == pytest.approx(0.01, rel=0.1)


def test_log_softmax_acts_over_channels_and_glu_is_refused() -> None:
    torch.manual_seed(0)
    block: NFNetBlock = nfnet(**SMALL, activation="log_softmax").stages[1][1]
    x = torch.randn(2, 64, 4, 4)
    torch.testing.assert_close(block.activation(x).exp().sum(1), torch.ones(2, 4, 4))
    for name in ("nfnet_f0", "nf_resnet26", "nf_regnet_b0", "bn_resnet26"):
        with pytest.raises(
            ValueError, match=rf"{name}: activation: .*glu halves the channels, and no network here widens"
        ):
            create(name, activation="glu")


def test_bad_input_is_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"stage 1: 128 channels have a bottleneck of 64, less than one group of 128;"):
        nfnet(width=0.5)
    with pytest.raises(ValueError, match=r"images must be \[N, 3, H, W\], got \[1, 1, 32, 32\]"):
        nfnet(**SMALL)(torch.randn(1, 1, 32, 32))
    with pytest.raises(ValueError, match=r"images of \[8, 8\] pixels are too small for total strides of 32"):
        nfnet(**SMALL)(torch.randn(1, 3, 8, 8))
    for stranger in ({"variant": "f9"}, {"group_width": 0}, {"alhpa": 0.1}, {"width": "1"}, {"dropout": 1.0}):
        with pytest.raises(ValueError, match=next(iter(stranger))):
            NFNetOptions.model_validate(stranger)
    with pytest.raises(ValueError, match=r"nfnet_f9: variant"):
        create("nfnet_f9")
    with pytest.raises(ValueError, match=r"nf_regnet_f0: variant"):
        create("nf_regnet_f0")


def test_options_have_labels() -> None:
    assert NFNetOptions(variant="f1").label == "nfnet_f1-alpha0.2"
