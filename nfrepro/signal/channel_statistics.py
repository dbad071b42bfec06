"""Statistics of an activation over images and pixels, averaged over channels (code: nf_resnet.py, signal_metrics)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Numbers that are reduced at once on a CPU: a megabyte of float32, so that the second pass reads the L2 cache.
_CHUNK = 1 << 18
# Rounding errors of a float32 sum grow with its length: longer rows are split into parts.
_LONGEST_ROW = 4096
# Between these mean squares float32 neither overflows nor loses digits, even if one number holds all of the power.
_SAFE_POWER = (1e-20, 1e30)


@dataclass(frozen=True)
class ChannelStatistics:
    """Two statistics of a signal propagation plot, float64 scalars on the device of the activation."""

    avg_sq_mean: Tensor  # mean_c(mean_NHW(x)^2)
    avg_var: Tensor  # mean_c(var_NHW(x)), population variance


@dataclass(frozen=True)
class ChannelMoments:
    """Mean and population variance of every channel over `count` images and positions, float64 [C]."""

    count: int
    mean: Tensor
    var: Tensor

    def average(self) -> Tensor:
        """The variance averaged over channels."""
        return self.var.mean()

    def divided_by(self, scale: float) -> "ChannelMoments":
        """The moments of the activation divided by `scale`."""
        return ChannelMoments(self.count, self.mean / scale, self.var / scale**2)


@torch.no_grad()
def channel_moments(x: Tensor, channel_dim: int = 1) -> ChannelMoments:
    """The moments of each channel of `x`, of any number of dimensions, computed in float64."""
    channels = x.movedim(channel_dim, 0).reshape(x.shape[channel_dim], -1).double()
    var, mean = torch.var_mean(channels, dim=1, correction=0)
    return ChannelMoments(channels.shape[1], mean, var)


def merged(parts: Sequence[ChannelMoments]) -> ChannelMoments:
    """The moments of all parts of an activation together (Chan, Golub and LeVeque 1979)."""
    count = sum(part.count for part in parts)
    mean = sum((part.mean * (part.count / count) for part in parts), torch.zeros_like(parts[0].mean))
    var = sum(
        ((part.var + (part.mean - mean).square()) * (part.count / count) for part in parts),
        torch.zeros_like(mean),
    )
    return ChannelMoments(count, mean, var)


@torch.no_grad()
def channel_statistics(x: Tensor, channel_dim: int = 1) -> ChannelStatistics:
    """The statistics of `x` [N, C, H, W] or [N, C, T], of any floating type and layout, equal to float64 up to 1e-6.

    `channel_dim` is 3 for [N, H, W, C] and 2 for [N, T, C]. On a CPU, it takes a tenth of the time of `torch.var_mean`,
    and copies only tensors that are not dense in memory.
    """
    x = x.movedim(channel_dim, 1)
    if x.ndim == 3:
        x = x.unsqueeze(3)
    if x.device.type != "cpu":
        return _in_two_passes(x)
    chunks = _Chunks.of(x)
    work = torch.promote_types(x.dtype, torch.float32)
    # Sums of x and of x^2 are cheapest, and suffice if deviations are not small compared with means.
    plain = chunks.statistics(work, centred=False)
    avg_sq_mean, avg_var = float(plain.avg_sq_mean), float(plain.avg_var)
    power = avg_sq_mean + avg_var
    if not _SAFE_POWER[0] < power < _SAFE_POWER[1]:
        only_zeros = power == 0.0 and not bool(x.any())
        return plain if only_zeros else chunks.statistics(torch.float64, centred=True)
    return plain if avg_sq_mean <= avg_var else chunks.statistics(work, centred=True)


@dataclass(frozen=True)
class _Chunks:
    """An activation cut into matrices; all passes over a matrix are made while it is in the cache."""

    matrices: list[Tensor]  # [pixels, C] if channels are last in memory or pixels = 1, else [rows of N C, pixels]
    dim: int  # of the pixels
    shares: Tensor  # [P]: the share of all pixels in each part of the channels
    channels: int
    numbers: int  # total number of elements

    @classmethod
    def of(cls, x: Tensor) -> "_Chunks":
        images, channels, pixels = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
        if pixels == 1 or (not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)):
            rows = min(max(1, _CHUNK // channels), _LONGEST_ROW)
            matrices = list(torch.split(x.permute(0, 2, 3, 1).reshape(-1, channels), rows))
            counts = [len(matrix) for matrix in matrices]
            dim = 0
        else:
            segments = torch.split(x.reshape(-1, pixels), _LONGEST_ROW, 1)
            matrices = [rows for part in segments for rows in torch.split(part, max(1, _CHUNK // part.shape[1]))]
            counts = [part.shape[1] for part in segments for _ in range(images)]
            dim = 1
        return cls(matrices, dim, torch.tensor(counts, dtype=torch.float64) / (images * pixels), channels, x.numel())

    def statistics(self, work: torch.dtype, centred: bool) -> ChannelStatistics:
        """The statistics from sums in the type `work`; with `centred`, from sums of deviations from each part's mean.

        Parts are merged by Chan's formula in float64. The variance averaged over channels needs no per-channel
        variance: all squares go into one sum.
        """
        means: list[Tensor] = []
        rests: list[Tensor] = []
        norms: list[Tensor] = []
        for matrix in self.matrices:
            values = matrix.to(work)
            if centred:
                means.append(values.mean(self.dim))
                values = values - means[-1].unsqueeze(self.dim)
            # The norm comes first, as the fastest way to read memory. It is vectorized along rows only.
            norms.append(torch.linalg.vector_norm(values, dim=1))
            (rests if centred else means).append(values.mean(self.dim))
        mean = self._of_parts(means)
        power = torch.cat(norms).double().square().sum() / self.numbers
        if centred:
            rest = self._of_parts(rests)
            power = power - (self.shares @ rest.square()).mean()
            mean = mean + rest
        overall = self.shares @ mean
        avg_sq_mean = overall.square().mean()
        between = (self.shares @ (mean - overall).square()).mean() if centred else -avg_sq_mean
        return ChannelStatistics(avg_sq_mean, (power + between).clamp(min=0.0))

    def _of_parts(self, moments: list[Tensor]) -> Tensor:
        return torch.cat(moments).double().view(-1, self.channels)


def _in_two_passes(x: Tensor) -> ChannelStatistics:
    """The statistics from float64 sums over `x` as it is, for devices where that is fast; does not synchronize."""
    mean = x.mean((0, 2, 3), dtype=torch.float64)
    pivot = mean.to(torch.promote_types(x.dtype, torch.float32))
    norm = torch.linalg.vector_norm(x - pivot[:, None, None], dim=(0, 2, 3), dtype=torch.float64)
    var = norm.square() * x.shape[1] / x.numel() - (mean - pivot).square()
    return ChannelStatistics(mean.square().mean(), var.mean().clamp(min=0.0))


# Between these magnitudes, sums of squares stay within the range of float32.
_SAFE_SIZE = (1e-12, 1e12)


@torch.no_grad()
def input_correlation(x: Tensor) -> Tensor:
    """Mean cosine similarity between the activations of two images of `x` [N, C, H, W]; NaN for one image.

    A mean shift leads to high values (paper section 4.1).
    """
    # Reading in memory order copies nothing; all images have the same order.
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    images = (x.permute(0, 2, 3, 1) if channels_last else x).reshape(len(x), -1)
    largest = float(images.abs().max())
    if not _SAFE_SIZE[0] < largest < _SAFE_SIZE[1]:
        images = images / largest  # or products would leave the range of float32
    with torch.autocast(x.device.type, enabled=False):
        images = images.to(torch.promote_types(images.dtype, torch.float32))
        products = (images @ images.T).double()
    norms = products.diagonal().sqrt()
    cosines = products / (norms[:, None] * norms)
    count = len(images)
    return (cosines.sum() - cosines.trace()) / (count * (count - 1)) if count > 1 else cosines.new_tensor(float("nan"))
