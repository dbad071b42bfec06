"""Noise after BatchNorm layers that changes their outputs' moments at every step (arXiv 1805.11604, section 2)."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nfrepro.errors import InputError
from nfrepro.seeding import stream_seed

# At strength 1: bounds of a channel's shift and of its factor's excess over 1, and the spread of images around both.
SHIFT, FACTOR, SPREAD = 0.5, 0.25, 0.1


class BatchNormNoise:
    """Turns the output a of every BatchNorm layer in training into s a + m, with s and m per channel and image.

    At each step a channel draws a shift from U(-0.5, 0.5) and a factor from U(1, 1.25); around these each image draws
    its m, uniformly within 0.1, and its s, normally with a standard deviation of 0.1. `strength` multiplies 0.5, 0.25
    and 0.1. The source disturbs each activation of each sample by noise with a mean other than 0 and a variance other
    than 1, drawn again at each step; the two levels, the numbers, and one s and m for all positions of a map are
    inferred.

    Draws are a function of seed, step, layer and kind of device: they do not use torch's global generators, and a
    continued run repeats them. Layers in evaluation mode add nothing. Raises `InputError` for a network without
    BatchNorm.
    """

    def __init__(self, model: nn.Module, strength: float, seed: int) -> None:
        self.strength, self.seed = strength, seed
        self.step = 0  # the optimiser step whose noise is drawn
        layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        if not layers:
            raise InputError(f"noise: there is no BatchNorm layer in {type(model).__name__} to add it to: set it to 0")
        for number, layer in enumerate(layers):
            layer.register_forward_hook(partial(self._disturbed, number))

    def before_step(self, step: int) -> None:
        """Sets the step whose noise is drawn from now on."""
        self.step = step

    def _disturbed(self, number: int, layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not layer.training:
            return output
        shift, factor = self._draw(number, output)
        dims = (1,) * (output.ndim - 2)
        return torch.addcmul(shift.view(*shift.shape, *dims), output, factor.view(*factor.shape, *dims))

    def _draw(self, number: int, output: Tensor) -> tuple[Tensor, Tensor]:
        """m and s of layer `number`, each [N, C]. Channels draw first, so their draws do not depend on batch size."""
        images, channels = output.shape[:2]
        generator = torch.Generator(output.device).manual_seed(stream_seed("noise", self.seed, self.step, number))
        uniform = partial(torch.rand, generator=generator, device=output.device)
        shift = SHIFT * (2 * uniform(channels) - 1)
        factor = FACTOR * uniform(channels)
        shift = shift + SPREAD * (2 * uniform(images, channels) - 1)
        factor = factor + SPREAD * torch.randn(images, channels, generator=generator, device=output.device)
        return (self.strength * shift).to(output.dtype), (1 + self.strength * factor).to(output.dtype)
