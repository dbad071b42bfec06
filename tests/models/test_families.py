"""The families that NF-ResNet is compared with, and NF-ResNet's switches, against independent networks and formulas."""

import itertools
import math
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from nfrepro.models import create
from nfrepro.models.activations import ACTIVATIONS
from nfrepro.models.blocks import SqueezeExcite, StochasticDepth
from nfrepro.models.convolutions import ScaledWSConv2d
from nfrepro.models.folding import fold
from nfrepro.models.options import FAMILIES, ResNetOptions
from nfrepro.signal import expected_variance

RESNETS = [family for family, options in FAMILIES.items() if issubclass(options, ResNetOptions)]


def double_noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def unsettled(model: nn.Module) -> Any:
    """The network in float64 with every parameter moved off its initial value, so that all of them matter."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.double().parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


@pytest.mark.parametrize("family", RESNETS)
@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_every_family_trains_from_images_to_gradients(family: str, stem: str) -> None:
    model = unsettled(create(family, **small(family), stem=stem, num_classes=5)).float()
    logits = model(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def small(family: str) -> dict[str, Any]:
    return {"depth": 26, "width": 0.125} | ({"norm_groups": 4} if family == "gn_ws_resnet" else {})


def test_v1_is_torchvisions_resnet50() -> None:
    ours: Any = create("bn_resnet50", order="v1", padding="torch", num_classes=1000)
    theirs = torchvision.models.resnet50()
    values = list(unsettled(theirs).state_dict().values())
    # Both keep blocks in order, and in a block convolution and norm alternate; ours names the stem after the stages.
    targets = sorted(ours.double().state_dict().items(), key=lambda item: not item[0].startswith("initial"))
    assert [tuple(v.shape) for _, v in targets] == [tuple(v.shape) for v in values]
    ours.load_state_dict({name: value for (name, _), value in zip(targets, values, strict=True)})
    x = double_noise(2, 3, 64, 64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order", ["bn_relu_conv", "relu_bn_conv"])
def test_bn_block_is_its_formula_in_both_orders(order: str) -> None:
    model = unsettled(create("bn_resnet", blocks=[2], width=0.125, order=order))
    x = double_noise(3, 32, 6, 6)
    block = model.stages[0][1]

    def norm_act(part: Any, value: Tensor) -> Tensor:
        value = torch.relu(value) if order == "relu_bn_conv" else value
        mean, variance = value.mean((0, 2, 3), keepdim=True), value.var((0, 2, 3), correction=0, keepdim=True)
        weight, bias = (p[None, :, None, None] for p in (part.norm.weight, part.norm.bias))
        value = (value - mean) / torch.sqrt(variance + 1e-5) * weight + bias
        return value if order == "relu_bn_conv" else torch.relu(value)

    out = functional.conv2d(norm_act(block.norm0, x), block.conv0.weight)
    out = functional.conv2d(norm_act(block.norm1, out), block.conv1.weight, padding=1)
    out = functional.conv2d(norm_act(block.norm2, out), block.conv2.weight)
    torch.testing.assert_close(block(x), x + out, rtol=1e-9, atol=1e-9)


def test_gn_ws_block_is_its_formula() -> None:
    model = unsettled(create("gn_ws_resnet", blocks=[2], width=0.125, norm_groups=4))
    x = double_noise(3, 32, 6, 6)
    block = model.stages[0][1]

    def standardized(weight: Tensor) -> Tensor:
        flat = weight.flatten(1)
        return ((flat - flat.mean(1, keepdim=True)) / flat.std(1, correction=0, keepdim=True)).view_as(weight)

    out = x
    for norm, conv in ((block.norm0, block.conv0), (block.norm1, block.conv1), (block.norm2, block.conv2)):
        grouped = out.view(3, 4, -1)
        deviation = torch.sqrt(grouped.var(2, correction=0, keepdim=True) + 1e-5)
        out = ((grouped - grouped.mean(2, keepdim=True)) / deviation).view_as(out)
        out = torch.relu(out * norm.norm.weight[None, :, None, None] + norm.norm.bias[None, :, None, None])
        out = functional.conv2d(out, standardized(conv.weight), padding=conv.kernel_size[0] // 2)
    torch.testing.assert_close(block(x), x + out, rtol=1e-6, atol=1e-6)


def test_skipinit_begins_as_the_identity_and_is_plain_otherwise() -> None:
    model: Any = create("skipinit_resnet", blocks=[2], width=0.125).double()
    block, x = model.stages[0][1], double_noise(2, 32, 6, 6)
    assert torch.equal(block(x), x)
    assert block.skip_gain.item() == 0.0
    unsettled(model)
    out = x
    for conv in (block.conv0, block.conv1, block.conv2):
        out = functional.conv2d(torch.relu(out), conv.weight, conv.bias, padding=conv.kernel_size[0] // 2)
    torch.testing.assert_close(block(x), x + block.skip_gain * out, rtol=1e-9, atol=1e-9)


def test_fixup_initialisation_and_block() -> None:
    torch.manual_seed(0)
    model: Any = create("fixup_resnet", depth=50, width=0.5)
    block = model.stages[3][1]
    assert block.conv0.weight.std().item() == pytest.approx(math.sqrt(2 / 256) * 16**-0.25, rel=0.02)
    assert block.conv1.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 256)) * 16**-0.25, rel=0.02)
    assert model.stages[3][0].conv_shortcut.weight.std().item() == pytest.approx(math.sqrt(2 / 1024), rel=0.02)
    assert not block.conv2.weight.any()
    assert not model.linear.weight.any()
    x = double_noise(2, 1024, 3, 3).relu()
    assert torch.equal(block.double()(x), x)
    unsettled(block)
    out = torch.relu(functional.conv2d(x + block.bias1a, block.conv0.weight) + block.bias1b)
    out = torch.relu(functional.conv2d(out + block.bias2a, block.conv1.weight, padding=1) + block.bias2b)
    out = functional.conv2d(out + block.bias3a, block.conv2.weight) * block.multiplier + block.bias3b
    torch.testing.assert_close(block(x), torch.relu(x + block.bias1a + out), rtol=1e-9, atol=1e-9)


def residual_variances(model: Any, pixels: int = 64) -> list[float]:
    """Residual average channel variance of each block at initialisation."""
    measured = []
    with torch.no_grad():
        x = model.forward_stem(torch.randn(4, 3, pixels, pixels))
        for stage in model.stages:
            for block in stage:
                branch = block.residual_branch(block.activated(x))
                measured.append(branch.var((0, 2, 3), correction=0).mean().item())
                x = block(x)
    return measured


@pytest.mark.parametrize(
    ("order", "init", "expected"),
    [("bn_relu_conv", "he", 1 - 1 / math.pi), ("relu_bn_conv", "lecun", 1.0), ("bn_relu_conv", "lecun", 0.3408)],
)
def test_residual_variance_of_both_orders(order: str, init: str, expected: float) -> None:
    # Claims C01 and C02; the third is what the released default gives instead of figure 1's 0.68.
    torch.manual_seed(0)
    model = create("bn_resnet", blocks=[4, 4], width=0.5, order=order, conv_init=init, stem="small")
    assert residual_variances(model) == pytest.approx([expected] * 8, rel=0.12)


def test_unnormalized_variance_doubles_with_every_block() -> None:
    torch.manual_seed(0)
    model: Any = create("unnormalized_resnet", blocks=[6], width=0.5, stem="small")
    with torch.no_grad():
        x = model.forward_stem(torch.randn(2, 3, 32, 32))
        moments = []
        for block in model.stages[0]:
            x = block(x)
            moments.append(x.square().mean().item())
    ratios = [after / before for before, after in itertools.pairwise(moments)]
    assert ratios == pytest.approx([2.0] * 5, rel=0.35)


NF_SWITCHES: list[dict[str, Any]] = [
    {},
    {"shortcut": "average_pool"},
    {"shortcut_input": "raw"},
    {"shortcut": "average_pool", "shortcut_input": "raw"},
    {"squeeze_excite": "end"},
    {"squeeze_excite": "middle"},
    {"squeeze_excite": "end", "squeeze_excite_gain": 1.0},
    {"convolution": "he"},
    {"convolution": "ws"},
    {"gamma_at": "weights"},
    {"gamma": "exact", "activation": "silu"},
    {"gamma": "none", "activation": "silu"},
    {"beta": "off"},
    {"beta": "no_reset"},
    {"skipinit_gain": None},
    {"ws_epsilon": "sum", "ws_variance": "sample"},
    {"ws_epsilon": "timm"},
]


@pytest.mark.parametrize("switches", NF_SWITCHES, ids=lambda switches: " ".join(map(str, switches.values())) or "paper")
def test_nf_resnet_is_its_formula_under_every_switch(switches: dict[str, Any]) -> None:
    options = {"alpha": 0.3, "skipinit_gain": 0.5, "width": 0.125, "blocks": [2, 2], "num_classes": 3} | switches
    model = unsettled(create("nf_resnet", **options))
    x = double_noise(2, 3, 40, 40)
    torch.testing.assert_close(model(x), nf_resnet_by_formula(model, x, options), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("switches", NF_SWITCHES, ids=lambda switches: " ".join(map(str, switches.values())) or "paper")
def test_constants_in_the_weights_leave_every_gradient_as_it_is(switches: dict[str, Any]) -> None:
    options = {"alpha": 0.3, "skipinit_gain": 0.5, "width": 0.125, "blocks": [2, 2], "num_classes": 3} | switches
    model = unsettled(create("nf_resnet", **options)).eval()
    x = double_noise(2, 3, 40, 40).requires_grad_()
    parameters = dict(model.named_parameters())
    sought = [x, *parameters.values()]
    direction = double_noise(2, 3)
    ours = torch.autograd.grad((model(x) * direction).sum(), sought)
    unfolded = torch.autograd.grad((nf_resnet_by_formula(model, x, options) * direction).sum(), sought)
    for name, got, expected in zip(["x", *parameters], ours, unfolded, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


def nf_resnet_by_formula(model: Any, x: Tensor, options: dict[str, Any]) -> Tensor:
    """The network written out with every scale on the activation, nothing folded."""
    activation = ACTIVATIONS[options.get("activation", "relu")]
    kind = options.get("convolution", "scaled_ws")
    gamma = activation.gamma(options.get("gamma", "published")) if kind == "scaled_ws" else 1.0
    gamma = 1.0 if options.get("gamma") == "none" else gamma
    in_weights = options.get("gamma_at") == "weights"

    def act(value: Tensor) -> Tensor:
        return activation.function(value) * (1.0 if in_weights else gamma)

    def conv(part: Any, value: Tensor) -> Tensor:
        weight = part.weight
        if kind != "he":
            n = weight[0].numel()
            correction = 1 if options.get("ws_variance") == "sample" else 0
            mean = weight.mean((1, 2, 3), keepdim=True)
            variance = weight.var((1, 2, 3), correction=correction, keepdim=True)
            deviation = {
                "floor": lambda: torch.sqrt(variance * n).clamp(min=1e-2),
                "sum": lambda: torch.sqrt(variance * n + 1e-4),
                "timm": lambda: torch.sqrt(variance + 1e-5) * math.sqrt(n),
            }[options.get("ws_epsilon", "floor")]()
            scale = math.sqrt(n) if kind == "ws" else 1.0
            weight = (weight - mean) / deviation * scale * part.gain[:, None, None, None] * (gamma if in_weights else 1)
        k, s = part.kernel_size[0], part.stride[0]
        size = value.shape[-1]
        total = max((-(-size // s) - 1) * s + k - size, 0)
        value = functional.pad(value, (total // 2, total - total // 2) * 2)
        return functional.conv2d(value, weight, part.bias, stride=s)

    x = conv(model.initial_conv, x)
    x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), value=-math.inf), 3, 2)
    ledger = expected_variance(options["blocks"], options["alpha"], reset=options.get("beta") != "no_reset")
    for stage, scales in zip(model.stages, ledger, strict=True):
        for block, scale in zip(stage, scales, strict=True):
            beta = 1.0 if options.get("beta") == "off" else math.sqrt(scale.input_variance)
            out = act(x) / beta
            shortcut = x
            if block.conv_shortcut is not None:
                source = x if options.get("shortcut_input") == "raw" else out
                if scale.stage > 0 and options.get("shortcut") == "average_pool":
                    source = functional.avg_pool2d(source, 2)
                shortcut = conv(block.conv_shortcut, source)
            out = conv(block.conv1, act(conv(block.conv0, out)))
            if options.get("squeeze_excite") == "middle":
                out = gated(block.squeeze_excite, out, options)
            out = conv(block.conv2, act(out))
            if options.get("squeeze_excite") == "end":
                out = gated(block.squeeze_excite, out, options)
            skip_gain = 1.0 if options["skipinit_gain"] is None else block.skip_gain
            x = shortcut + options["alpha"] * skip_gain * out
    pooled: Tensor = act(x).mean((2, 3))
    logits: Tensor = model.linear(pooled)
    return logits


def gated(gates: Any, x: Tensor, options: dict[str, Any]) -> Tensor:
    values = torch.sigmoid(gates.fc1(torch.relu(gates.fc0(x.mean((2, 3))))))
    return x * values[:, :, None, None] * options.get("squeeze_excite_gain", 2.0)


def test_squeeze_excite_needs_its_gain_of_two() -> None:
    # Claim C17: at initialisation the gates are about 1/2, so gain 1 costs a factor of about 4 in variance.
    torch.manual_seed(0)
    x = torch.randn(64, 64, 8, 8)
    variances = []
    for gain in (1.0, 2.0):
        gates = SqueezeExcite(64, 16, gain, "lecun")
        variances.append(gates(x).var().item())
    assert variances[1] == pytest.approx(1.0, rel=0.1)
    assert variances[1] / variances[0] == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize("rescale", [False, True])
def test_stochastic_depth_drops_whole_images_while_training_only(rescale: bool) -> None:
    torch.manual_seed(0)
    drop = StochasticDepth(0.3, rescale)
    out = drop(torch.ones(10_000, 2, 1, 1))
    kept = out[:, 0, 0, 0] > 0
    assert torch.equal(out[:, 0], out[:, 1])
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.02)
    assert out[kept].unique().item() == pytest.approx(1 / 0.7 if rescale else 1.0)
    assert torch.equal(drop.eval()(torch.ones(5, 2, 1, 1)), torch.ones(5, 2, 1, 1))


@pytest.mark.parametrize("family", RESNETS)
def test_stochastic_depth_grows_with_depth_and_dropout_acts_while_training_only(family: str) -> None:
    model = unsettled(create(family, **small(family), stochastic_depth=0.4, dropout=0.5, stem="small", num_classes=3))
    rates = [block.stochastic_depth.rate for stage in model.stages for block in stage]
    assert rates == pytest.approx([0.4 * index / 8 for index in range(8)])
    x = double_noise(4, 3, 16, 16)
    model.train()
    assert not torch.equal(model(x), model(x))
    model.eval()
    torch.testing.assert_close(model(x), model(x))
    assert model.dropout.p == 0.5


def test_groups_that_do_not_divide_are_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match="16 channels do not divide into norm_groups = 32"):
        create("gn_ws_resnet", depth=26, width=0.25)


@pytest.mark.parametrize("switches", NF_SWITCHES, ids=lambda switches: " ".join(map(str, switches.values())) or "paper")
def test_folded_it_is_plain_and_equal(switches: dict[str, Any]) -> None:
    options = {"skipinit_gain": 0.5, "width": 0.125, "blocks": [2, 2], "num_classes": 3} | switches
    model = unsettled(create("nf_resnet", **options)).eval()
    folded = fold(model)
    x = double_noise(2, 3, 40, 40)
    torch.testing.assert_close(folded(x), model(x), rtol=1e-10, atol=1e-10)
    assert not [module for module in folded.modules() if isinstance(module, ScaledWSConv2d)]
    # Random scalars make some logits small differences of large numbers: rounding is relative to the largest.
    expected = model.float()(x.float())
    close = 1e-4 * expected.abs().max().item()
    torch.testing.assert_close(fold(model)(x.float()), expected, rtol=0.0, atol=close)


@pytest.mark.parametrize("gamma_at", ["activation", "weights"])
@pytest.mark.parametrize("name", ["nf_regnet_b0", "nfnet_f0"])
def test_folded_regnets_and_nfnets_are_plain_and_equal(name: str, gamma_at: str) -> None:
    options = {"width": 0.5, "group_width": 4, "skipinit_gain": 0.5, "gamma_at": gamma_at, "num_classes": 3}
    model = unsettled(create(name, **options)).eval()
    folded = fold(model)
    x = double_noise(2, 3, 48, 48)
    torch.testing.assert_close(folded(x), model(x), rtol=1e-10, atol=1e-10)
    assert not [module for module in folded.modules() if isinstance(module, ScaledWSConv2d)]


def test_only_networks_without_normalization_fold() -> None:
    with pytest.raises(ValueError, match="only NF-ResNets, NF-RegNets and NFNets can be folded, not a Preactivation"):
        fold(create("bn_resnet", depth=26, width=0.125))


@pytest.mark.parametrize(
    ("family", "options"),
    [(family, {"stem": stem}) for family in RESNETS for stem in ("imagenet", "small", "small_stride2")]
    + [("nf_regnet_b0", {}), ("bn_regnet_b0", {}), ("efficientnet_b0", {"width": 0.25})],
)
def test_features_are_what_is_declared(family: str, options: dict[str, Any]) -> None:
    model: Any = create(family, **(small(family) if family in RESNETS else {}), **options)
    features = model.eval().forward_features(torch.randn(1, 3, 96, 64))
    for feature, channels, stride in zip(features, model.feature_channels, model.feature_strides, strict=True):
        assert feature.shape == (1, channels, 96 // stride, 64 // stride)


def test_deeplab_takes_an_nf_resnet_as_its_backbone() -> None:
    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network: Any = create("nf_resnet", depth=26, width=0.25, skipinit_gain=1.0)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"out": self.network.forward_features(x)[-1]}

    backbone = Backbone()
    head = torchvision.models.segmentation.deeplabv3.DeepLabHead(backbone.network.feature_channels[-1], 5)
    network = torchvision.models.segmentation.DeepLabV3(backbone, head)
    out = network(torch.randn(2, 3, 64, 64))["out"]
    assert out.shape == (2, 5, 64, 64)
    out.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for n, p in backbone.network.named_parameters() if "linear" not in n)


def test_images_too_small_for_the_strides_are_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"images of \[8, 64\] pixels are too small for total strides of 32"):
        create("nf_resnet50", width=0.125)(torch.randn(1, 3, 8, 64))
