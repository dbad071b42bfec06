"""The constants that every convolution of a normalizer-free network is multiplied by: gamma, beta, alpha, skip_gain."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from nfrepro.models.convolutions import Conv2d
from nfrepro.models.nf_resnet import NFBlock, NFResNet
from nfrepro.models.nfnet import NFNet, NFNetBlock
from nfrepro.models.regnet import NFRegNet, NFRegNetBlock

NFNetwork = NFResNet | NFRegNet | NFNet
AnyNFBlock = NFBlock | NFRegNetBlock | NFNetBlock


@dataclass(frozen=True)
class ScaledConvolution:
    """output_scale * skip_gain * conv(input_scale * x): one convolution and the scales its network gives it."""

    owner: nn.Module
    name: str  # the attribute of `owner` that the convolution is
    input_scale: float  # gamma, or gamma / beta
    output_scale: float = 1.0  # alpha
    skip_gain: nn.Parameter | None = None

    @property
    def convolution(self) -> Conv2d:
        found: Conv2d = getattr(self.owner, self.name)
        return found

    def effective(self) -> tuple[Tensor, Tensor]:
        """Weight [O, I, K, K] and bias [O] with all scales in them."""
        scale = self.output_scale if self.skip_gain is None else self.output_scale * self.skip_gain
        assert self.convolution.bias is not None
        return self.convolution.effective_weight(self.input_scale * scale), self.convolution.bias * scale


def scaled_convolutions(model: nn.Module) -> list[ScaledConvolution]:
    """Every convolution of an NF-ResNet, NF-RegNet or NFNet, in the order of `model.modules()`; [] for another network.

    The scales are those of the network's forward pass: what `fold` puts into plain weights.
    """
    if not isinstance(model, NFNetwork):
        return []
    found = list(_outside_of_blocks(model))
    for module in model.modules():
        if isinstance(module, AnyNFBlock):
            found.extend(_in_block(module))
    order = {id(module): number for number, module in enumerate(model.modules())}
    return sorted(found, key=lambda scaled: order[id(scaled.convolution)])


def ends_in_squeeze_excite(block: AnyNFBlock) -> bool:
    """Whether alpha and the SkipInit scalar act through the gates of squeeze-excite, not through the last convolution:
    the gates are no linear function of what they see, so only behind them may the branch be scaled."""
    if isinstance(block, NFBlock):
        return block.squeeze_excite is not None and not block.squeezes_in_the_middle
    return isinstance(block, NFNetBlock)


def _outside_of_blocks(model: NFNetwork) -> Iterator[ScaledConvolution]:
    yield ScaledConvolution(model, "initial_conv", model.gamma_in_weight)
    if isinstance(model, NFNet):
        for name in ("stem_conv1", "stem_conv2", "stem_conv3"):
            yield ScaledConvolution(model, name, model.gamma)
    if not isinstance(model, NFResNet):
        yield ScaledConvolution(model, "final_conv", model.gamma_in_weight)


def _in_block(block: AnyNFBlock) -> Iterator[ScaledConvolution]:
    entering = block.gamma / block.beta
    yield ScaledConvolution(block, "conv0", entering)
    for name in ("conv1", "conv1b"):
        if hasattr(block, name):
            yield ScaledConvolution(block, name, block.gamma)
    if ends_in_squeeze_excite(block):
        yield ScaledConvolution(block, "conv2", block.gamma)
    else:
        yield ScaledConvolution(block, "conv2", block.gamma, block.alpha, block.skip_gain)
    if block.conv_shortcut is not None:
        sees_activated = getattr(block, "shortcut_sees_activated", True)
        yield ScaledConvolution(block, "conv_shortcut", entering if sees_activated else 1.0)
