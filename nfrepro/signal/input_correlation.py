"""How much the activations of different images have in common (paper section 4.1: what a mean shift leads to)."""

import torch
from torch import Tensor

# Between these magnitudes sums of squares stay within float32.
_SAFE = (1e-12, 1e12)


@torch.no_grad()
def input_correlation(x: Tensor) -> Tensor:
    """Mean cosine similarity between the activations of two images of the batch `x` [N, C, H, W]; NaN for one image."""
    # In the order of memory nothing is copied; all images have the same order.
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    images = (x.permute(0, 2, 3, 1) if channels_last else x).reshape(len(x), -1)
    largest = float(images.abs().max())
    if not _SAFE[0] < largest < _SAFE[1]:
        images = images / largest  # or products would leave the range of float32
    with torch.autocast(x.device.type, enabled=False):
        images = images.to(torch.promote_types(images.dtype, torch.float32))
        products = (images @ images.T).double()
    norms = products.diagonal().sqrt()
    cosines = products / (norms[:, None] * norms)
    count = len(images)
    return (cosines.sum() - cosines.trace()) / (count * (count - 1)) if count > 1 else cosines.new_tensor(float("nan"))
