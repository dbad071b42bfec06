"""How much the activations of different images have in common (paper section 4.1: what a mean shift leads to)."""

import torch
from torch import Tensor


@torch.no_grad()
def input_correlation(x: Tensor) -> Tensor:
    """Mean cosine similarity between the activations of two images of the batch `x` [N, C, H, W]; NaN for one image."""
    # In the order of memory nothing is copied; all images have the same order.
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    images = (x.permute(0, 2, 3, 1) if channels_last else x).reshape(len(x), -1)
    products = (images @ images.T).double()
    norms = products.diagonal().sqrt()
    cosines = products / (norms[:, None] * norms)
    count = len(images)
    return (cosines.sum() - cosines.trace()) / (count * (count - 1)) if count > 1 else cosines.new_tensor(float("nan"))
