"""Training images as the test images of a data set: to ask what a network makes of what it has learnt from."""

from dataclasses import replace

import numpy as np
import torch

from nfrepro.data.image_files import ImageFiles
from nfrepro.data.sources import Dataset, ImageSet
from nfrepro.seeding import stream_seed


def training_sample(dataset: Dataset, count: int) -> Dataset:
    """`dataset` with `count` of its training images, or all where it has fewer, in place of its test images.

    The choice is random and fixed, since folders list images class by class. Images are not augmented.
    """
    split = dataset.train
    generator = torch.Generator().manual_seed(stream_seed("train-sample"))
    chosen = torch.randperm(len(split), generator=generator)[:count].sort().values
    labels = split.labels[chosen.to(split.labels.device)]
    if isinstance(split, ImageFiles):
        sample: ImageSet | ImageFiles = replace(split, names=split.names[np.asarray(chosen)], labels=labels)
    else:
        sample = ImageSet(split.images[chosen.to(split.device)], labels)
    return replace(dataset, test=sample)
