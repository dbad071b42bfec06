"""Signal propagation of other people's architectures: against hooks written by hand, or refused with the reason."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.signal import propagation


def moments(x: Tensor, channel_dim: int) -> tuple[float, float]:
    values = x.detach().double().movedim(channel_dim, -1).flatten(0, -2).numpy()
    return float((values.mean(0) ** 2).mean()), float(values.var(0).mean())


@dataclass(frozen=True)
class Case:
    """An architecture, and where its residual branches end."""

    make: Callable[[], nn.Module]
    block: str  # class of its blocks
    ends: tuple[str, ...]  # modules of a block that end its branches, in order of execution; one may be called again
    branch: Callable[[nn.Module, str, Tensor], Tensor] = lambda block, end, out: out  # what is added
    channel_dim: int = 1  # of a block's output
    has_addition: Callable[[Any], bool] = lambda block: True
    pixels: int = 64


def of_torchvision(name: str, *rest: Any, **options: Any) -> Case:
    return Case(lambda: torchvision.models.get_model(name, weights=None), *rest, **options)


def of_timm(name: str, *rest: Any, size: int | None = None, **options: Any) -> Case:
    return Case(lambda: timm.create_model(name, **({"img_size": size} if size else {})), *rest, **options)


def resmlp(block: Any, end: str, out: Tensor) -> Tensor:
    return block.ls1 * out.transpose(1, 2) if end == "linear_tokens" else block.ls2 * out


def layer_scale(block: Any, end: str, out: Tensor) -> Tensor:
    return (block.gamma_1 if end == "attn" else block.gamma_2) * out


CASES = {
    "torchvision resnet18": of_torchvision("resnet18", "BasicBlock", ("bn2",)),
    "torchvision resnext50": of_torchvision("resnext50_32x4d", "Bottleneck", ("bn3",)),
    "torchvision mobilenet_v2": of_torchvision(
        "mobilenet_v2", "InvertedResidual", ("conv",), has_addition=lambda b: b.use_res_connect
    ),
    "torchvision mobilenet_v3": of_torchvision(
        "mobilenet_v3_small", "InvertedResidual", ("block",), has_addition=lambda b: b.use_res_connect
    ),
    "torchvision efficientnet_b0": of_torchvision(
        "efficientnet_b0", "MBConv", ("block",), has_addition=lambda b: b.use_res_connect
    ),
    "torchvision mnasnet": of_torchvision(
        "mnasnet0_5", "_InvertedResidual", ("layers",), has_addition=lambda b: b.apply_residual
    ),
    "torchvision swin_t": of_torchvision("swin_t", "SwinTransformerBlock", ("attn", "mlp"), channel_dim=3),
    "torchvision vit_b_16": of_torchvision("vit_b_16", "EncoderBlock", ("dropout", "mlp"), channel_dim=2, pixels=224),
    "timm vit_tiny": of_timm("vit_tiny_patch16_224", "Block", ("ls1", "ls2"), size=64, channel_dim=2),
    "timm deit3_small": of_timm("deit3_small_patch16_224", "Block", ("ls1", "ls2"), size=64, channel_dim=2),
    "timm mixer_s32": of_timm(
        "mixer_s32_224",
        "MixerBlock",
        ("mlp_tokens", "mlp_channels"),
        lambda block, end, out: out.transpose(1, 2) if end == "mlp_tokens" else out,
        size=64,
        channel_dim=2,
    ),
    "timm resmlp_12": of_timm(
        "resmlp_12_224", "ResBlock", ("linear_tokens", "mlp_channels"), resmlp, size=64, channel_dim=2
    ),
    "timm gmlp_s16": of_timm("gmlp_s16_224", "SpatialGatingBlock", ("mlp_channels",), size=64, channel_dim=2),
    "timm xcit_nano": of_timm(
        "xcit_nano_12_p16_224", "XCABlock", ("drop_path1", "drop_path3", "drop_path2"), size=64, channel_dim=2
    ),
    "timm swin_tiny": of_timm(
        "swin_tiny_patch4_window7_224", "SwinTransformerBlock", ("drop_path1", "drop_path2"), size=64, channel_dim=-1
    ),
    "timm poolformer_s12": of_timm("poolformer_s12", "MetaFormerBlock", ("layer_scale1", "layer_scale2")),
    "timm res2net50": of_timm("res2net50_26w_4s", "Bottle2neck", ("bn3",)),
    "timm resnest14d": of_timm("resnest14d", "ResNestBottleneck", ("bn3",)),
    "timm seresnet18": of_timm("seresnet18", "BasicBlock", ("se",)),
    "timm resnetv2_50": of_timm("resnetv2_50", "PreActBottleneck", ("conv3",)),
    "timm ghostnet_050": of_timm("ghostnet_050", "GhostBottleneck", ("ghost2",)),
    "timm efficientnet_b0": of_timm("efficientnet_b0", "InvertedResidual", ("bn3",), has_addition=lambda b: b.has_skip),
    "timm cait_xxs24": of_timm(
        "cait_xxs24_224", "LayerScaleBlock", ("attn", "mlp"), layer_scale, size=64, channel_dim=2
    ),
    "timm cait_xxs24, class attention": of_timm(
        "cait_xxs24_224", "LayerScaleBlockClassAttn", ("attn", "mlp"), layer_scale, size=64, channel_dim=2
    ),
    "timm convit_tiny": of_timm("convit_tiny", "Block", ("attn", "mlp"), size=64, channel_dim=2),
    "timm eva02_tiny": of_timm(
        "eva02_tiny_patch14_224", "EvaBlock", ("drop_path1", "drop_path2"), size=56, channel_dim=2, pixels=56
    ),
    "timm pvt_v2_b0": of_timm("pvt_v2_b0", "Block", ("drop_path1", "drop_path2"), channel_dim=2),
    "timm twins_svt_small": of_timm("twins_svt_small", "Block", ("drop_path1", "drop_path2"), size=64, channel_dim=2),
    "timm pit_ti": of_timm("pit_ti_224", "Block", ("ls1", "ls2"), size=64, channel_dim=2),
    "timm levit_128s": of_timm("levit_128s", "LevitBlock", ("drop_path1", "drop_path2"), size=64, channel_dim=2),
    "timm hiera_tiny": of_timm("hiera_tiny_224", "HieraBlock", ("drop_path1", "drop_path2"), size=64, channel_dim=2),
    "timm maxvit_pico": of_timm(
        "maxvit_pico_rw_256", "PartitionAttentionCl", ("drop_path1", "drop_path2"), size=64, channel_dim=-1
    ),
    "timm botnet26t": of_timm("botnet26t_256", "SelfAttnBlock", ("drop_path",), size=64),
    "timm repvgg_a0": of_timm(
        "repvgg_a0", "RepVggBlock", ("drop_path",), has_addition=lambda b: b.identity is not None
    ),
    "timm dla34": of_timm("dla34", "DlaBasic", ("bn2",)),
    "timm cspresnet50": of_timm("cspresnet50", "BottleneckBlock", ("drop_path",)),
    "timm regnetz_005": of_timm(
        "regnetz_005", "Bottleneck", ("conv3",), has_addition=lambda b: b.downsample is not None
    ),
    "timm convmixer": of_timm("convmixer_1024_20_ks9_p14", "Residual", ("fn",), pixels=70),
}

REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "torchvision vgg11": (lambda: torchvision.models.vgg11(), "no residual blocks in VGG"),
    "torchvision squeezenet": (lambda: torchvision.models.squeezenet1_1(), "no residual blocks in SqueezeNet"),
    "torchvision densenet121": (lambda: torchvision.models.densenet121(), "no residual blocks in DenseNet"),
    "torchvision shufflenet": (lambda: torchvision.models.shufflenet_v2_x0_5(), "no residual blocks in ShuffleNetV2"),
    "timm rdnet_tiny": (lambda: timm.create_model("rdnet_tiny"), "no residual blocks in RDNet"),
    "scripted resnet18": (
        lambda: torch.jit.script(torchvision.models.resnet18()),
        "is a scripted module .torch.jit.: its additions cannot be seen",
    ),
}


def scrambled(model: nn.Module) -> nn.Module:
    """No gain is 0 or 1, so that all of them matter."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim < 2:
            parameter.data.uniform_(0.5, 1.5, generator=generator)
    return model


def by_hooks(model: nn.Module, x: Tensor, case: Case) -> tuple[list[float], list[tuple[float, float]]]:
    """Variances of all branches in order of execution, and the statistics of all blocks' outputs."""
    model = copy.deepcopy(model).eval()
    branches: list[float] = []
    outputs: list[tuple[float, float]] = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.train()
        if type(module).__name__ == case.block and case.has_addition(module):
            for end in case.ends:
                part = getattr(module, end)
                part.register_forward_hook(
                    lambda _m, _i, out, block=module, end=end: branches.append(
                        moments(case.branch(block, end, out), case.channel_dim)[1]
                    )
                )
            module.register_forward_hook(lambda _m, _i, out: outputs.append(moments(out, case.channel_dim)))
    with torch.no_grad():
        model(x)
    return branches, outputs


# Each takes a second or more.
SLOW = {
    *("torchvision resnet18", "torchvision resnext50", "torchvision swin_t", "torchvision vit_b_16"),
    *("timm gmlp_s16", "timm maxvit_pico", "timm efficientnet_b0", "timm res2net50", "timm swin_tiny"),
    *("timm resnetv2_50", "timm twins_svt_small", "timm deit3_small", "timm hiera_tiny", "timm cspresnet50"),
    *("timm cait_xxs24", "timm poolformer_s12", "timm convmixer", "timm xcit_nano"),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CASES])
def test_equals_hooks(name: str) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    model = scrambled(case.make())
    x = torch.randn(2, 3, case.pixels, case.pixels)
    branches, outputs = by_hooks(model, x, case)
    table = propagation(model, x)
    blocks = [name for name, module in model.named_modules() if type(module).__name__ == case.block]
    # XCiT ends with layers of class attention, which are other blocks.
    table = table[[any(f"{found}.".startswith(f"{name}.") for name in blocks) for found in table.attrs["modules"]]]
    np.testing.assert_allclose(table["res_var"], branches, rtol=1e-4)
    every = len(branches) // len(outputs)  # additions in a block; the last one makes its output
    np.testing.assert_allclose(
        table[["avg_sq_mean", "avg_var"]].to_numpy()[every - 1 :: every], outputs, rtol=1e-4, atol=1e-10
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_the_reason(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        propagation(make(), torch.randn(2, 3, 64, 64))
