"""Parts that residual blocks share: squeeze-excite, stochastic depth, the average pool of a shortcut."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfrepro.models.convolutions import init_haiku_default, init_truncated_normal


class SqueezeExcite(nn.Module):
    """Channel gates: x * gain * sigmoid(fc1(relu(fc0(mean(x))))).

    The sigmoid is about 1/2 at initialisation, so that a gain of 2 keeps the variance (code: base.py, nf_regnet.py).
    `init` is `haiku` for the code's initial weights, or `lecun`, whose deviation is larger by 1 / 0.88.
    """

    def __init__(self, channels: int, hidden: int, gain: float, init: Literal["lecun", "haiku"]) -> None:
        super().__init__()
        self.fc0 = nn.Linear(channels, hidden)
        self.fc1 = nn.Linear(hidden, channels)
        self.gain = gain
        for linear in (self.fc0, self.fc1):
            if init == "haiku":
                init_haiku_default(linear.weight)
            else:
                init_truncated_normal(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, output_scale: Tensor | float = 1.0) -> Tensor:
        """[N, C, H, W] to the same, times `output_scale`, which acts through the small gates."""
        gates = torch.sigmoid(self.fc1(torch.relu(self.fc0(x.mean((2, 3))))))
        return x * (self.gain * output_scale * gates)[:, :, None, None]


class StochasticDepth(nn.Module):
    """Drops the whole branch of each image with probability `rate` while training.

    The authors' code never rescales, so that means differ between training and test (base.py); torchvision and timm
    divide by the probability to keep.
    """

    def __init__(self, rate: float, rescale: bool) -> None:
        super().__init__()
        self.rate, self.rescale = rate, rescale

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same."""
        if not self.training or self.rate == 0.0:
            return x
        kept = torch.rand(len(x), device=x.device) >= self.rate
        scale = kept / (1.0 - self.rate) if self.rescale else kept
        return x * scale.to(x.dtype)[:, None, None, None]


def average_pool(x: Tensor) -> Tensor:
    """2x2 means with stride 2, [N, C, H, W] to [N, C, ceil(H / 2), ceil(W / 2)].

    At the end of an odd side the mean is over the pixels that exist, not over padding: Haiku's avg_pool with SAME.
    """
    return F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)


def add_branch(
    shortcut: Tensor, residual: Tensor, branch_scale: Tensor | float, stochastic_depth: StochasticDepth
) -> Tensor:
    """shortcut + branch_scale * residual in one pass, unless stochastic depth may drop the branch."""
    if stochastic_depth.training and stochastic_depth.rate > 0:
        return stochastic_depth(residual * branch_scale) + shortcut  # type: ignore[no-any-return]
    if isinstance(branch_scale, Tensor):
        return torch.addcmul(shortcut, residual, branch_scale.to(residual.dtype))
    return torch.add(shortcut, residual, alpha=branch_scale)


class NormalizerFreeBlock(nn.Module):
    """x + alpha * skip_gain * f(x / beta), whatever f and its shortcut are (paper section 4).

    A family sets the attributes and says what its branch and its shortcut do with the activated input `out`.
    """

    activation: Callable[[Tensor], Tensor]
    gamma: float
    beta: float  # divides the activated input
    input_beta: float  # divides the input itself; one of the two is 1
    alpha: float
    skip_gain: nn.Parameter | None
    stochastic_depth: StochasticDepth

    @property
    def branch_scale(self) -> Tensor | float:
        """The factor of the branch before it is added to the skip path."""
        return self.alpha if self.skip_gain is None else self.alpha * self.skip_gain

    def set_beta(self, beta: float, beta_at: Literal["activation", "input"]) -> None:
        """Divides the activated input by `beta`, as the authors' code does, or the input, as in the paper's formula."""
        self.beta, self.input_beta = (beta, 1.0) if beta_at == "activation" else (1.0, beta)

    def activated(self, x: Tensor) -> Tensor:
        """The activated block input, before gamma and a `beta` that acts behind the activation."""
        return self.activation(x if self.input_beta == 1.0 else x / self.input_beta)

    def forward(self, x: Tensor) -> Tensor:
        """x + alpha f(x / beta): [N, C, H, W] to [N, O, ceil(H / stride), ceil(W / stride)]."""
        out = self.activated(x)
        # gamma / beta act in the weights of f's first convolution, alpha and the SkipInit scalar in those of its last.
        alpha_f = self.residual_branch(out, self.gamma / self.beta, self.branch_scale)
        return self.shortcut(x, out) + self.stochastic_depth(alpha_f)  # type: ignore[no-any-return]

    def forward_with_branch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and the residual branch before stochastic depth, SkipInit scalar and alpha."""
        out = self.activated(x)
        residual = self.residual_branch(out, self.gamma / self.beta, 1.0)
        return add_branch(self.shortcut(x, out), residual, self.branch_scale, self.stochastic_depth), residual

    def residual_branch(self, out: Tensor, scale: float, branch_scale: Tensor | float) -> Tensor:
        """`branch_scale` times the branch of the activated block input `out`, which `scale` brings to unit variance."""
        raise NotImplementedError

    def shortcut(self, x: Tensor, out: Tensor) -> Tensor:
        """The skip path of the block input `x`, activated `out`."""
        raise NotImplementedError
