"""A data set generated on the fly, easy enough to be learnt in a moment. No torch."""

import numpy as np
from numpy.typing import NDArray

from nfrepro.data.arrays import Arrays, Split
from nfrepro.data.options import SyntheticOptions
from nfrepro.seeding import stream_seed

# Cells along a side of a pattern: coarse, so that a crop shifted by a few pixels shows the same pattern.
PATTERN_CELLS = 4
# In grey levels: standard deviation of a pixel's noise, and lowest and highest value of a pattern.
NOISE = 32.0
PATTERN_RANGE = (48.0, 208.0)


def make(options: SyntheticOptions) -> Arrays:
    """Generates both splits from the options alone; neither depends on the size of the other."""
    patterns = _patterns(options)
    return Arrays(
        train=_split(patterns, options.train_images, stream_seed("synthetic-train", options.data_seed)),
        test=_split(patterns, options.test_images, stream_seed("synthetic-test", options.data_seed)),
        classes=tuple(f"class {index}" for index in range(options.classes)),
        label="synthetic",
    )


def _patterns(options: SyntheticOptions) -> NDArray[np.float32]:
    """Random cells, [classes, C, H, W], mirror-symmetric so that a flip does not change the class."""
    random = np.random.default_rng(stream_seed("synthetic-patterns", options.data_seed))
    cells = random.uniform(*PATTERN_RANGE, (options.classes, options.channels, PATTERN_CELLS, PATTERN_CELLS))
    cells = (cells + cells[..., ::-1]) / 2
    cell_of_pixel = np.arange(options.pixels) * PATTERN_CELLS // options.pixels
    return cells[..., cell_of_pixel[:, np.newaxis], cell_of_pixel].astype(np.float32)


def _split(patterns: NDArray[np.float32], count: int, seed: int) -> Split:
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % len(patterns)
    images = np.empty((count, *patterns.shape[1:]), np.uint8)
    for index, label in enumerate(labels):
        noisy = patterns[label] + NOISE * random.standard_normal(patterns.shape[1:], np.float32)
        images[index] = noisy.clip(0, 255)
    return Split(images, labels)
