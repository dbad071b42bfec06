"""Loss and accuracy on the test split."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfrepro.models.effective_weights import EffectiveWeights
from nfrepro.training.distributed import ALONE, Processes
from nfrepro.training.precision import weight_dtype


@dataclass(frozen=True)
class Evaluation:
    """Mean cross entropy (without label smoothing), and top-1 and top-5 accuracy in percent."""

    loss: float
    top1: float
    top5: float
    images: int


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    autocast: torch.autocast,
    processes: Processes = ALONE,
) -> Evaluation:
    """Evaluates `model` on the `batches` of (images [N, C, H, W], labels [N]) of all processes.

    The model is in evaluation mode meanwhile; its mode is restored. Waits for the device once. Raises `ProcessLost`.
    """
    was_training = model.training
    model.eval()
    images, sums = 0, None
    with EffectiveWeights(model).for_inference(weight_dtype(autocast)):
        for x, labels in batches:
            with autocast:
                logits = model(x)
            found = _sums(logits.float(), labels)
            sums = found if sums is None else sums + found
            images += len(labels)
    model.train(was_training)
    loss, top1, top5 = [0.0, 0.0, 0.0] if sums is None else sums.tolist()
    loss, *counts = processes.all_reduce_numbers([loss, top1, top5, images])
    top1, top5, images = (int(count) for count in counts)
    return Evaluation(loss / images, 100.0 * top1 / images, 100.0 * top5 / images, images)


def _sums(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of the losses, and numbers of labels with the largest logit and one of the five largest: float64 [3]."""
    loss = F.cross_entropy(logits, labels, reduction="sum")
    rank = ranks(logits, labels)
    return torch.stack([loss.double(), (rank < 1).sum().double(), (rank < 5).sum().double()])


def ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """The number of classes ranked before the label, int64 [N].

    Among equal logits, common in bfloat16, the class with the lower number comes first: the same on every device, which
    `topk` does not promise. A NaN comes before every number.
    """
    own = logits.gather(1, labels[:, None])
    before = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    return (~(logits <= own) | ((logits == own) & before)).sum(1)
