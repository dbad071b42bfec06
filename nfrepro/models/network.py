"""Base of every network of this package: stem, stages of blocks, head, linear classifier."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.models.convolutions import CUT_VARIANCE, Conv2d, init_haiku_default, init_truncated_normal
from nfrepro.signal.prediction import NetworkDescription, Normalization, Stem


class Network(nn.Module):
    """Maps images [N, in_channels, H, W] to logits [N, num_classes].

    A family sets `initial_conv`, `stages` and `linear`, and defines its stem and its head.
    """

    initial_conv: Conv2d
    fed: tuple[str, ...] = ()  # further convolutions of the stem, each fed by an activation
    linear: nn.Linear
    activation: Callable[[Tensor], Tensor]
    normalization: Normalization = "none"
    gamma = gamma_in_weight = 1.0  # gain of every activation, and gain in the weights of the first convolution

    def __init__(self, dropout: float, feature_channels: list[int], feature_strides: list[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        self.dropout = nn.Dropout(dropout)
        self.feature_channels = feature_channels  # of each stage's output
        self.feature_strides = feature_strides  # image pixels per pixel of each stage's output, in each direction

    def add_classifier(self, channels: int, num_classes: int, std: float = 0.0) -> None:
        """Adds the linear layer; weights are normal of deviation `std`, 0 in the code but for NF-ResNets and NFNets."""
        self.linear = nn.Linear(channels, num_classes)
        nn.init.normal_(self.linear.weight, std=std) if std else nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def init_plain_convolutions(self, scale: float | None = 1.0) -> None:
        """Initialises convolutions: truncated normal of variance scale / fan_in, Haiku's default for None; biases 0."""
        for module in self.modules():
            if isinstance(module, Conv2d):
                if scale is None:
                    init_haiku_default(module.weight)
                else:
                    init_truncated_normal(module.weight, scale)
                module.initial_scale = CUT_VARIANCE if scale is None else scale
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.forward_pool(x))

    def classify(self, pooled: Tensor) -> Tensor:
        """Logits [N, num_classes] of pooled features [N, C]."""
        out: Tensor = self.linear(self.dropout(pooled))
        return out

    def forward_pool(self, x: Tensor) -> Tensor:
        """The pooled features, [N, C]."""
        return self.forward_head(self.forward_features(x)[-1])

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """The output of each stage, [N, feature_channels[i], H / feature_strides[i], W / feature_strides[i]]."""
        features = []
        x = self.forward_stem(x)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def forward_stem(self, x: Tensor) -> Tensor:
        """The layers before the first block. Raises `ValueError` for images of a wrong shape, or too small."""
        channels, stride = self.initial_conv.in_channels, self.feature_strides[-1]
        if x.ndim != 4 or x.shape[1] != channels:
            raise InputError(f"images must be [N, {channels}, H, W], got {list(x.shape)}")
        if min(x.shape[2:]) < stride / 2:
            raise InputError(f"images of {list(x.shape[2:])} pixels are too small for total strides of {stride}")
        return self.stem_output(x)

    def stem_output(self, x: Tensor) -> Tensor:
        """The first convolution, and any layers between it and the first block."""
        return self.convolve_stem(x)

    def convolve_stem(self, x: Tensor) -> Tensor:
        """The stem without its max pool, if it has one."""
        out: Tensor = self.initial_conv(x)
        return out

    def forward_head(self, x: Tensor) -> Tensor:
        """The layers between the last block and the pooled features."""
        raise NotImplementedError

    def describe(self) -> NetworkDescription:
        """The network as `nfrepro.signal.predict` sees it: at initialisation, in the limit of large width."""
        stages: Any = enumerate(self.stages, start=1)
        blocks = [block.describe(number, index == 0) for number, stage in stages for index, block in enumerate(stage)]
        return NetworkDescription(
            self.activation, self.describe_stem(), tuple(blocks), self.gamma, normalization=self.normalization
        )

    def describe_stem(self) -> Stem:
        """The stem as `nfrepro.signal.predict` sees it."""
        further = [getattr(self, name).describe() for name in self.fed]
        return Stem((self.initial_conv.describe(self.gamma_in_weight), *further))
