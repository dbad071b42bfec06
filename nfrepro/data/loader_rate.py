"""Throughput of the data loader without a network that consumes the batches."""

import itertools
import time

import torch

from nfrepro.data.batches import train_batches
from nfrepro.data.image_files import Readers
from nfrepro.data.options import AugmentationOptions
from nfrepro.data.sources import Dataset


def loader_rate(dataset: Dataset, options: AugmentationOptions, batch_size: int, seconds: float, workers: int) -> float:
    """Training images per second, ready on the device of `dataset`, over `seconds` or a little more.

    Counted from the second batch on, to leave out the start of the workers. Raises InputError like `train_batches`.
    """
    with Readers(workers, dataset.device) as readers:
        epochs = (train_batches(dataset, options, batch_size, 0, epoch, workers=readers) for epoch in itertools.count())
        batches = itertools.chain.from_iterable(epochs)
        next(batches)
        started, elapsed, images = time.perf_counter(), 0.0, 0
        while elapsed < seconds or not images:
            x, _ = next(batches)
            if x.is_cuda:
                torch.cuda.synchronize(x.device)
            images += len(x)
            elapsed = time.perf_counter() - started
    return images / elapsed
