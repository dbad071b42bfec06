"""The effective weights of a normalizer-free network, computed once for a whole step or evaluation."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nfrepro.models import standardization_kernel as kernel
from nfrepro.models import triton_support
from nfrepro.models.blocks import NormalizerFree
from nfrepro.models.convolutions import ScaledConvolution, ScaledWSConv2d, Standardization


class EffectiveWeights:
    """The effective weights and biases of all Scaled WS convolutions of one network, on the network's device."""

    def __init__(self, model: nn.Module) -> None:
        every = model.scaled_convolutions() if isinstance(model, NormalizerFree) else []
        self.scaled = found = [scaled for scaled in every if isinstance(scaled.convolution, ScaledWSConv2d)]
        self.table = FilterTable(found) if found and _is_for_kernel(found) else None

    @contextmanager
    def for_training(self, dtype: torch.dtype, parts: int) -> Iterator["Gradients"]:
        """Gives convolutions their weights from one pass over all filters, in `dtype`, or float32 for several parts.

        `Gradients.finish` continues the backward passes of all parts of a batch through that pass, once. If the kernels
        do not run, each convolution standardizes its own weight when used, and there is nothing to finish.
        """
        if self.table is None:
            yield Gradients(None, None)
            return
        # Gradients of several parts are accumulated in float32.
        outs = self.table.standardize(dtype if parts == 1 else torch.float32)
        leaves = [out.detach().requires_grad_() for out in outs]
        try:
            self._hand_out(*self.table.cut(*leaves))
            yield Gradients(outs, leaves)
        finally:
            self._take_back()

    @contextmanager
    def for_inference(self, dtype: torch.dtype) -> Iterator[None]:
        """Gives the network's convolutions their weights from one pass, without gradients."""
        with torch.no_grad():
            if self.table is not None:
                weights, biases = self.table.cut(*self.table.standardize(dtype))
            else:
                pairs = [scaled.effective() for scaled in self.scaled]
                weights, biases = [weight for weight, _ in pairs], [bias for _, bias in pairs]
        try:
            self._hand_out(weights, biases)
            yield
        finally:
            self._take_back()

    def _hand_out(self, weights: list[Tensor], biases: list[Tensor]) -> None:
        for scaled, weight, bias in zip(self.scaled, weights, biases, strict=True):
            scaled.convolution.effective = (weight, bias)  # type: ignore[assignment]

    def _take_back(self) -> None:
        for scaled in self.scaled:
            scaled.convolution.effective = None  # type: ignore[assignment]


class Gradients:
    """Gradients on their way from effective weights to parameters."""

    def __init__(self, outs: tuple[Tensor, Tensor] | None, leaves: list[Tensor] | None) -> None:
        self.outs, self.leaves = outs, leaves

    def finish(self) -> None:
        """Propagates the gradients to the parameters; call it after the last backward pass of a step."""
        if self.outs is not None and self.leaves is not None:
            torch.autograd.backward(self.outs, [leaf.grad for leaf in self.leaves])


class FilterTable:
    """The filters of `scaled` convolutions, concatenated in the form that the kernels take."""

    def __init__(self, scaled: list[ScaledConvolution]) -> None:
        convolutions = [one.convolution for one in scaled]
        first: Any = convolutions[0]
        self.convolutions: list[Any] = list(convolutions)
        self.how: Standardization = first.standardization
        self.skip_gains = [one.skip_gain for one in scaled if one.skip_gain is not None]
        self.sizes = [convolution.weight.numel() for convolution in convolutions]
        self.filters = [len(convolution.weight) for convolution in convolutions]
        device = convolutions[0].weight.device
        fan_in = torch.tensor([convolution.weight[0].numel() for convolution in convolutions])
        number = {id(skip_gain): index for index, skip_gain in enumerate(self.skip_gains)}
        repeats = torch.tensor(self.filters)

        def by_filter(values: list[Any] | Tensor, dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(values).to(dtype).repeat_interleave(repeats).to(device)

        per_filter = fan_in.repeat_interleave(repeats)
        self.start = (per_filter.cumsum(0) - per_filter).to(device)
        self.fan_in = by_filter(fan_in, torch.int32)
        self.weight_scale = by_filter([one.input_scale * one.output_scale for one in scaled], torch.float32)
        self.bias_scale = by_filter([one.output_scale for one in scaled], torch.float32)
        self.skip_index = by_filter([number.get(id(one.skip_gain), -1) for one in scaled], torch.int32)
        every = torch.arange(len(self.skip_gains), device=device)[:, None]
        self.has_skip_gain = (self.skip_index == every).float()  # [SkipInit scalars, filters]

    def standardize(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """All effective weights and all biases, flat."""
        weight = torch.cat([_in_memory_order(convolution.weight) for convolution in self.convolutions])
        gain = torch.cat([convolution.gain for convolution in self.convolutions])
        bias = torch.cat([convolution.bias for convolution in self.convolutions])
        skip_gain = torch.stack(list(self.skip_gains)) if self.skip_gains else weight.new_ones(1)
        out: tuple[Tensor, Tensor] = _StandardizeAll.apply(weight, gain, bias, skip_gain, self, dtype)
        return out

    def cut(self, weight: Tensor, bias: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Splits flat weights and biases by convolution, into [O, I, K, K] in channels-last order and [O]."""
        weights = []
        for flat, convolution in zip(torch.split(weight, self.sizes), self.convolutions, strict=True):
            out_channels, in_channels, height, width = convolution.weight.shape
            weights.append(flat.view(out_channels, height, width, in_channels).permute(0, 3, 1, 2))
        return weights, list(torch.split(bias, self.filters))

    @property
    def columns(self) -> tuple[Tensor, ...]:
        return self.start, self.fan_in, self.weight_scale, self.bias_scale, self.skip_index


class _StandardizeAll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, gain: Tensor, bias: Tensor, skip_gain: Tensor, table: FilterTable, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        how = table.how
        out, out_bias, mean, inverse = kernel.standardize_filters(
            weight, gain, bias, skip_gain, *table.columns, how.epsilon, how.variance == "sample", how.scaled, dtype
        )
        ctx.save_for_backward(weight, gain, bias, skip_gain, mean, inverse)
        ctx.table = table
        return out, out_bias

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, bias_gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, gain, bias, skip_gain, mean, inverse = ctx.saved_tensors
        table, how = ctx.table, ctx.table.how
        of_weight, of_gain, of_bias, of_skip = kernel.standardize_filters_backward(
            gradient.contiguous(), bias_gradient.contiguous(), weight, gain, bias, skip_gain,
            *table.columns, mean, inverse, how.variance == "sample", how.scaled,
        )  # fmt: skip
        # Summed in a fixed order, for the same bits every time.
        of_skip_gain = (table.has_skip_gain * of_skip).sum(1) if table.skip_gains else None
        return of_weight, of_gain, of_bias, of_skip_gain, None, None


def _in_memory_order(weight: Tensor) -> Tensor:
    """Flattens [O, I, K, K] in channels-last order; a view if that is its layout."""
    return weight.permute(0, 2, 3, 1).reshape(-1)


def _is_for_kernel(scaled: list[ScaledConvolution]) -> bool:
    convolutions = [one.convolution for one in scaled]
    first = convolutions[0]
    assert isinstance(first, ScaledWSConv2d)
    return triton_support.runs_on(first.weight.device) and all(
        isinstance(one, ScaledWSConv2d)
        and one.standardization == first.standardization
        and one.weight.dtype == torch.float32
        and one.weight.device == first.weight.device
        for one in convolutions
    )
