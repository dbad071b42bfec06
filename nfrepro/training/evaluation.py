"""Loss and accuracy on the test split."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfrepro.training.distributed import ALONE, Processes


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
    """`model` in evaluation mode over all `batches` of (images [N, C, H, W], labels [N]) that the processes have; its
    mode is restored. Raises `ProcessLost`."""
    was_training = model.training
    model.eval()
    loss, top1, top5, images = 0.0, 0, 0, 0
    for x, labels in batches:
        with autocast:
            logits = model(x)
        logits = logits.float()
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        top1 += int(best[:, 0].sum())
        top5 += int(best.sum())
        images += len(labels)
    model.train(was_training)
    loss, *counts = processes.totals([loss, top1, top5, images])
    top1, top5, images = (int(count) for count in counts)
    return Evaluation(loss / images, 100.0 * top1 / images, 100.0 * top5 / images, images)
