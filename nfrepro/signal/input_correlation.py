"""How much the activations of different images have in common (paper section 4.1: what a mean shift leads to)."""

import torch
from torch import Tensor
from torch.nn import functional


@torch.no_grad()
def input_correlation(x: Tensor) -> Tensor:
    """Mean cosine similarity between the activations of two images of the batch `x` [N, C, H, W]; NaN for one image."""
    images = functional.normalize(x.flatten(1).float(), dim=1)
    count = len(images)
    total = images.sum(0).square().sum()  # the sum over all pairs, each image with itself too
    return (total - count) / (count * (count - 1)) if count > 1 else total.new_tensor(float("nan"))
